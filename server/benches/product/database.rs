//! Where the server under test keeps its rows: a SQLite file, or a database of the run's own PostgreSQL.

use crate::postgres::Postgres;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A kind of database.
#[derive(Clone)]
pub enum Engine {
    Sqlite,
    Postgres(Arc<Postgres>),
}

impl Engine {
    /// What it is called on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// A new database; a SQLite file is in this folder.
    pub fn create(&self, folder: &Path) -> anyhow::Result<Database> {
        Ok(match self {
            Self::Sqlite => Database::Sqlite(folder.join("updraft.db")),
            Self::Postgres(server) => Database::Postgres(Arc::clone(server), server.create()?),
        })
    }
}

/// One database.
pub enum Database {
    Sqlite(PathBuf),
    /// The server, and the name of the database, which goes when this is dropped.
    Postgres(Arc<Postgres>, String),
}

impl Database {
    /// The value of the setting; `None`: the default.
    pub fn url(&self) -> Option<String> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(server, name) => Some(server.url(name)),
        }
    }

    /// Bytes of its pages that hold something, indexes too. PostgreSQL's files may have room within their pages.
    pub fn bytes_used(&self) -> anyhow::Result<u64> {
        match self {
            Self::Sqlite(path) => {
                let conn = open(path)?;
                let pragma = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
                let pages = pragma("page_count")? - pragma("freelist_count")?;
                Ok((pages * pragma("page_size")?).unsigned_abs())
            }
            Self::Postgres(server, name) => {
                Ok(server.ask(name, "SELECT pg_database_size(current_database())")?.parse()?)
            }
        }
    }

    /// Processor time of the database's own processes, in seconds; SQLite has none.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        match self {
            Self::Sqlite(_) => Ok(0.0),
            Self::Postgres(server, _) => server.cpu_seconds(),
        }
    }

    /// Makes copies of a package's one batch until it has so many.
    pub fn batches_copy(&self, firmware: i64, count: usize) -> anyhow::Result<()> {
        let columns = self.columns_of_job()?;
        let (numbers, job_id) = match self {
            Self::Sqlite(_) => {
                let numbers = format!(
                    "(WITH RECURSIVE n(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < {count}) SELECT n FROM n)"
                );
                (numbers, "lower(hex(randomblob(16)))")
            }
            Self::Postgres(..) => (format!("generate_series(2, {count}) AS n(n)"), "md5(n.n::text)"),
        };
        let copied: Vec<&str> = columns
            .iter()
            .map(|column| match column.as_str() {
                "job_id" => job_id,
                "ordinal" => "n.n",
                column => column,
            })
            .collect();
        let alias = if matches!(self, Self::Sqlite(_)) { " n" } else { "" };
        self.run(&format!(
            "INSERT INTO job ({}) SELECT {} FROM job, {numbers}{alias} WHERE job.firmware = {firmware} AND job.ordinal = 1;
             UPDATE firmware SET job_count = {count} WHERE id = {firmware};",
            columns.join(", "),
            copied.join(", "),
        ))
    }

    /// Lets the planner know what was filled in, as the database itself would in its own time.
    pub fn settle(&self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(server, name) => server.ask(name, "VACUUM ANALYZE").map(drop),
        }
    }

    fn columns_of_job(&self) -> anyhow::Result<Vec<String>> {
        let mut columns: Vec<String> = match self {
            Self::Sqlite(path) => {
                let conn = open(path)?;
                let mut found = conn.prepare("SELECT name FROM pragma_table_info('job')")?;
                found.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
            }
            Self::Postgres(server, name) => {
                let sql = "SELECT column_name FROM information_schema.columns WHERE table_name = 'job'";
                server.ask(name, sql)?.lines().map(str::to_owned).collect()
            }
        };
        columns.retain(|column| column != "id");
        Ok(columns)
    }

    fn run(&self, sql: &str) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(path) => Ok(open(path)?.execute_batch(&format!("BEGIN; {sql} COMMIT"))?),
            Self::Postgres(server, name) => server.ask(name, sql).map(drop),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Self::Postgres(server, name) = self {
            // The whole server goes with the run anyhow.
            let _ = server.remove(name);
        }
    }
}

fn open(path: &Path) -> anyhow::Result<rusqlite::Connection> {
    let conn = rusqlite::Connection::open(path)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    Ok(conn)
}
