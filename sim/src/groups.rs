//! Groups of devices that batches are for, and whose members change.

use crate::api::{Answer, pairs};
use crate::invariant::Invariant;
use crate::operator::text;
use crate::world::World;
use crate::{Violation, ensure};

/// In so many of a hundred worlds there are groups.
const WORLDS_PERCENT: usize = 60;
/// How often of a hundred acts a group changes as well.
const REGROUP_PERCENT: usize = 15;

impl World {
    /// Makes a group of these devices.
    pub(crate) fn make_group(&mut self, nodes: &[usize]) -> Result<usize, Violation> {
        let name = format!("group_{}", self.groups.len() + 1);
        let made = self.must("CreateDeviceGroup", &[("GroupName", &name)])?;
        self.groups.push(text(&made["Data"]["GroupId"]));
        let group = self.groups.len() - 1;
        self.regroup(group, nodes, true)?;
        Ok(group)
    }

    /// Adds these devices to a group, or takes them out.
    pub(crate) fn regroup(&mut self, group: usize, nodes: &[usize], add: bool) -> Result<(), Violation> {
        let mut params = pairs(&[("GroupId", &self.groups[group])]);
        let mut names = Vec::new();
        let nodes = nodes.iter().map(|node| &self.nodes[*node]).filter(|node| !node.twin);
        for (node, n) in nodes.zip(1..) {
            params.push((format!("Device.{n}.ProductKey"), self.products[node.product].key.clone()));
            params.push((format!("Device.{n}.DeviceName"), node.name.clone()));
            names.push(node.name.clone());
        }
        if names.is_empty() {
            return Ok(());
        }
        let (action, what) = if add {
            ("BatchAddDeviceGroupRelations", "into")
        } else {
            ("BatchDeleteDeviceGroupRelations", "out of")
        };
        self.note(format!("operator: takes {names:?} {what} group {}", group + 1));
        match self.call(action, &params)? {
            Answer::Refused(code) => Err(Violation(format!("a change of a group was refused: {code}"))),
            Answer::Done(_) | Answer::Lost => Ok(()),
        }
    }

    /// Groups of a drawn scenario.
    pub(crate) fn populate_groups(&mut self) -> Result<(), Violation> {
        if !self.grouper.percent(WORLDS_PERCENT) {
            return Ok(());
        }
        for _ in 0..2 {
            let count = self.grouper.below(self.nodes.len() + 1);
            let nodes = self.grouper.some(count, self.nodes.len());
            self.make_group(&nodes)?;
        }
        Ok(())
    }

    /// Now and then devices move into a group or out of it.
    pub(crate) fn shuffle_groups(&mut self) -> Result<(), Violation> {
        if self.groups.is_empty() || !self.grouper.percent(REGROUP_PERCENT) {
            return Ok(());
        }
        let (group, add) = (self.grouper.below(self.groups.len()), self.grouper.percent(50));
        let nodes = self.grouper.some(4, self.nodes.len());
        self.regroup(group, &nodes, add)
    }

    /// QueryDeviceGroupInfo counts the devices that QueryDeviceListByDeviceGroup shows.
    pub(crate) fn group_is_right(&mut self, group: usize) -> Result<(), Violation> {
        self.stats.looked(Invariant::Shown, 1);
        let id = self.groups[group].clone();
        let (info, list) = (
            self.call("QueryDeviceGroupInfo", &pairs(&[("GroupId", &id)]))?,
            self.call("QueryDeviceListByDeviceGroup", &pairs(&[("GroupId", &id), ("PageSize", "100")]))?,
        );
        let (Answer::Done(info), Answer::Done(list)) = (info, list) else {
            return Err(Violation(format!("group {id} cannot be queried")));
        };
        let counted = &info["Data"]["DeviceCount"];
        let shown = list["Data"]["SimpleDeviceInfo"].as_array().map_or(0, Vec::len);
        ensure(*counted == shown && list["Total"] == *counted, || {
            format!("group {id} has {counted} devices, shown are {shown} of {}", list["Total"])
        })
    }
}
