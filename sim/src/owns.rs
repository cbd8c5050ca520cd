//! Nobody is told of a package that is another's: of another product or instance, or another module's.

use crate::world::World;
use crate::{Violation, ensure};
use updraft_core::id::DeviceNo;
use updraft_server::device::link::Downlink;

impl World {
    /// Whether what was decided to be sent is of packages that are the devices' own.
    pub(crate) fn packages_are_their_own(&self, decided: &[(DeviceNo, Downlink)]) -> Result<(), Violation> {
        for (device, downlink) in decided {
            let (task, package) = match downlink {
                Downlink::Push { task, package, .. }
                | Downlink::PullReply { package: Some((task, _, package)), .. } => (*task, package),
                Downlink::PullReply { package: None, .. } | Downlink::Message { .. } => continue,
            };
            let wrong =
                |what: &str| format!("device {device} is told of a package of another {what}: {task}");
            let node = self.nodes.iter().find(|node| node.no == *device);
            let node = node.ok_or_else(|| Violation(wrong("world")))?;
            let firmware = self.checker.firmware(task.job);
            let firmware = firmware.ok_or_else(|| Violation(wrong("batch")))?;
            ensure(firmware.product == self.products[node.product].no, || wrong("product"))?;
            ensure(firmware.instance == self.server.instance, || wrong("instance"))?;
            ensure(firmware.module == package.module, || wrong("module"))?;
            let asked = matches!(downlink, Downlink::PullReply { .. });
            let for_it = self.asking.contains(&(*device, package.module.clone()));
            ensure(!asked || for_it, || wrong("module than it asked for"))?;
            let difference = firmware.differs_from().is_some();
            ensure(difference == package.differential, || wrong("kind"))?;
            let files = firmware.files.iter().map(|file| (file.size, file.md5.as_str()));
            let told = package.files.iter().map(|file| (file.size, file.md5.as_str()));
            ensure(files.eq(told), || wrong("content"))?;
        }
        Ok(())
    }
}
