//! Operators who disable, enable, delete and replace devices at bad moments.

use crate::api::{Answer, pairs};
use crate::invariant::Invariant;
use crate::operator::text;
use crate::packages::{MODULE, fit_module};
use crate::world::{Event, World};
use crate::{Violation, ensure};
use std::collections::BTreeSet;
use updraft_core::time::SECOND_MS;

/// In how many of all worlds this happens, in percent.
const WORLDS_PERCENT: usize = 67;
/// The part of a world's devices that is deleted at most.
const DELETED_PART: usize = 3;

impl World {
    /// Plans the first of it, in some worlds.
    pub(crate) fn begin_lives(&mut self) {
        if self.lives.percent(WORLDS_PERCENT) {
            self.at(10 * SECOND_MS, Event::Life);
        }
    }

    /// One device's life changes; plans the next.
    pub(crate) fn change_a_life(&mut self) -> Result<(), Violation> {
        if self.plan.is_none() || self.nodes.is_empty() {
            return Ok(());
        }
        let wait_ms = self.lives.range(SECOND_MS, 180 * SECOND_MS) * self.nature.slowness;
        self.at(wait_ms, Event::Life);
        let node = self.lives.below(self.nodes.len());
        let (what, replace) = (self.lives.below(100), self.lives.percent(50));
        let no = self.nodes[node].no;
        if self.is_left_out() || self.server.running.is_none() || self.deleted.contains(&no) {
            return Ok(());
        }
        match what {
            0..40 => self.set_life("DisableThing", node),
            40..75 => {
                let disabled = |node: &usize| {
                    let no = self.nodes[*node].no;
                    self.barred.contains(&no) && !self.deleted.contains(&no)
                };
                let disabled: Vec<usize> = (0..self.nodes.len()).filter(disabled).collect();
                if disabled.is_empty() {
                    return Ok(());
                }
                let node = self.lives.pick(&disabled);
                self.set_life("EnableThing", node)
            }
            _ if self.deleted.len() * DELETED_PART < self.nodes.len() => {
                self.set_life("DeleteDevice", node)?;
                if replace && self.deleted.contains(&no) { self.replace(node) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// Calls one of the operations for a device that is not deleted; what was answered must be so.
    pub(crate) fn set_life(&mut self, action: &str, node: usize) -> Result<(), Violation> {
        let (no, name) = (self.nodes[node].no, self.nodes[node].name.clone());
        let key = self.products[self.nodes[node].product].key.clone();
        self.note(format!("operator: {action} {name}"));
        match self.call(action, &pairs(&[("ProductKey", &key), ("DeviceName", &name)]))? {
            Answer::Done(_) => {
                let (barred, deleted) = (self.barred.contains(&no), self.deleted.contains(&no));
                let wanted = (action != "EnableThing", action == "DeleteDevice");
                ensure((barred, deleted) == wanted, || {
                    format!("{action} {name} is answered, but barred: {barred}, deleted: {deleted}")
                })
            }
            Answer::Refused(code) => Err(Violation(format!("{action} {name} was refused: {code}"))),
            Answer::Lost => Ok(()),
        }
    }

    /// Registers a device under a deleted one's name. The old one goes on trying its old secret.
    fn replace(&mut self, old: usize) -> Result<(), Violation> {
        let (product, name) = (self.nodes[old].product, self.nodes[old].name.clone());
        if self.server.running.is_none() {
            return Ok(());
        }
        let key = self.products[product].key.clone();
        self.note(format!("operator: registers {name} anew"));
        match self.call("RegisterDevice", &pairs(&[("ProductKey", &key), ("DeviceName", &name)]))? {
            Answer::Done(body) => {
                let secret = text(&body["Data"]["DeviceSecret"]);
                let parts = self.nodes[old].device.version(MODULE).is_some();
                self.add_node(product, &name, secret, SECOND_MS, |config| {
                    if parts {
                        fit_module(config);
                    }
                })
                .map(drop)
            }
            Answer::Refused(code) => Err(Violation(format!("{name} is not free: {code}"))),
            Answer::Lost => {
                self.unsure.insert(name);
                Ok(())
            }
        }
    }

    /// Lets every disabled device back in.
    pub(crate) fn enable_all(&mut self) -> Result<(), Violation> {
        for node in 0..self.nodes.len() {
            let no = self.nodes[node].no;
            if self.barred.contains(&no) && !self.deleted.contains(&no) {
                self.set_life("EnableThing", node)?;
            }
        }
        Ok(())
    }

    /// QueryDevice counts the devices that it shows: all that are not deleted, each name once.
    pub(crate) fn devices_are_counted(&mut self, product: usize) -> Result<(), Violation> {
        self.stats.looked(Invariant::Shown, 1);
        let key = self.products[product].key.clone();
        let (mut names, mut total, mut page) = (Vec::new(), 0, 1);
        loop {
            let number = page.to_string();
            let params = pairs(&[("ProductKey", &key), ("CurrentPage", &number), ("PageSize", "50")]);
            let Answer::Done(body) = self.call("QueryDevice", &params)? else {
                return Err(Violation("devices cannot be listed".to_owned()));
            };
            let rows = body["Data"]["DeviceInfo"].as_array().cloned().unwrap_or_default();
            if rows.is_empty() {
                break;
            }
            total = body["Total"].as_u64().unwrap_or_default() as usize;
            names.extend(rows.iter().map(|row| text(&row["DeviceName"])));
            page += 1;
        }
        let each: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        ensure(total == names.len() && each.len() == names.len(), || {
            format!("product {key} counts {total} devices and shows {names:?}")
        })?;
        let missing = self.nodes.iter().find(|node| {
            node.product == product && !self.deleted.contains(&node.no) && !each.contains(node.name.as_str())
        });
        ensure(missing.is_none(), || format!("{:?} is not listed", missing.map(|node| &node.name)))
    }
}
