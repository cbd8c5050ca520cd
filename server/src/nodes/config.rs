//! What the configuration says of nodes.

use super::Role;
use crate::config::{Config, ConfigError};
use updraft_store::Location;

impl Config {
    /// What people call this node.
    pub fn node_name(&self) -> String {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = self.node_name.clone().or_else(host);
        name.map_or_else(|| "node".to_owned(), |name| name.trim().to_owned())
    }

    /// Whether other nodes may serve the database, too: they can if it is PostgreSQL and files are where all find them.
    pub fn shares_database(&self) -> bool {
        self.blobs_url.is_some() && matches!(self.database(), Ok(Location::Postgres(_)))
    }

    /// A part of the work is done for others, who must find it.
    pub(crate) fn check_role(&self) -> Result<(), ConfigError> {
        if self.role == Role::All || self.shares_database() {
            return Ok(());
        }
        Err(ConfigError(format!(
            "`role` is {}, so other nodes do the rest of the work: they need one PostgreSQL database (`database_url`) \
             and one place of files (`blobs_url`)",
            self.role
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_work_needs_others_and_what_they_share() {
        let role = |flags: &[(&'static str, &str)]| {
            let flags: Vec<_> = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
            Config::gather(None, |_| None, &flags)
        };
        let (database, blobs) = (("database_url", "postgres://h/db"), ("blobs_url", "s3://bucket"));
        assert!(role(&[("role", "worker"), database, blobs]).unwrap().shares_database());
        assert!(!role(&[database]).unwrap().shares_database(), "its files are its own");
        assert!(!role(&[blobs]).unwrap().shares_database(), "SQLite has one process");
        for flags in [&[("role", "api")][..], &[("role", "api"), database], &[("role", "gateway"), blobs]] {
            let refused = role(flags).unwrap_err().to_string();
            assert!(refused.contains("blobs_url") && refused.contains("database_url"), "{refused}");
        }
        let refused = role(&[("role", "both")]).unwrap_err().to_string();
        assert!(refused.contains("all, api, gateway or worker"), "{refused}");
    }
}
