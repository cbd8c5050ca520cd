//! A fresh database for one case.

use crate::private_postgres::Server;
use postgres::SimpleQueryMessage;
use rusqlite::types::ValueRef;
use tempfile::TempDir;
use updraft_store::{Location, Store, StoreError};

/// An empty database: the case opens stores on it, and looks at it from outside.
pub struct Engine<'a> {
    location: Location,
    home: Home<'a>,
}

enum Home<'a> {
    Folder { _removed_on_drop: TempDir },
    Database { server: &'a Server, name: String },
}

impl<'a> Engine<'a> {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let location = Location::Sqlite(folder.path().join("updraft.db"));
        Self { location, home: Home::Folder { _removed_on_drop: folder } }
    }

    pub fn postgres(server: &'a Server) -> Self {
        let name = server.database_create();
        Self { location: Location::Postgres(server.url(&name)), home: Home::Database { server, name } }
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Opens a store, which migrates it.
    pub fn open(&self) -> Store {
        self.try_open().expect("the store opens")
    }

    pub fn try_open(&self) -> Result<Store, StoreError> {
        Store::open(&self.location)
    }

    /// Connects without the store.
    pub fn outside(&self) -> Outside {
        match &self.location {
            Location::Sqlite(path) => {
                let conn = rusqlite::Connection::open(path).expect("the file opens");
                conn.execute_batch("PRAGMA busy_timeout = 5000").expect("pragmas work");
                Outside::Sqlite(conn)
            }
            Location::Postgres(url) => Outside::Postgres(
                postgres::Client::connect(url, postgres::NoTls)
                    .expect("the private server accepts connections"),
            ),
            Location::Inline => unreachable!("no engine of the suite lives in memory"),
        }
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        match &self.home {
            Home::Folder { .. } => {}
            Home::Database { server, name } => server.database_drop(name),
        }
    }
}

/// Another client of the same database.
pub enum Outside {
    Sqlite(rusqlite::Connection),
    Postgres(postgres::Client),
}

impl Outside {
    pub fn execute(&mut self, sql: &str) {
        match self {
            Self::Sqlite(conn) => conn.execute_batch(sql).expect("the statement works"),
            Self::Postgres(client) => client.batch_execute(sql).expect("the statement works"),
        }
    }

    /// All rows, every value as text.
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        match self {
            Self::Sqlite(conn) => sqlite_rows(conn, sql).expect("the query works"),
            Self::Postgres(client) => postgres_rows(client, sql).expect("the query works"),
        }
    }

    /// The one number that a query answers.
    pub fn number(&mut self, sql: &str) -> i64 {
        self.rows(sql)[0][0].parse().expect("the query answers a number")
    }
}

fn sqlite_rows(conn: &rusqlite::Connection, sql: &str) -> rusqlite::Result<Vec<Vec<String>>> {
    let mut statement = conn.prepare(sql)?;
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|at| Ok(text(row.get_ref(at)?))).collect())?;
    rows.collect()
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(value) => value.to_string(),
        ValueRef::Real(value) => value.to_string(),
        ValueRef::Text(value) | ValueRef::Blob(value) => String::from_utf8_lossy(value).into_owned(),
    }
}

fn postgres_rows(client: &mut postgres::Client, sql: &str) -> Result<Vec<Vec<String>>, postgres::Error> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql)? {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned()).collect());
        }
    }
    Ok(rows)
}
