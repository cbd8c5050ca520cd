//! PostgreSQL: sessions and statements; `postgres_tls.rs` has the way to the server.
//!
//! Clients live and die on threads of their own: connecting or dropping one inside an async task panics.
//! Nothing waits for ever: a server that is stopped, or a network that swallows packets, says nothing at all.

use crate::engine::postgres_error::{Failure, error};
use crate::engine::postgres_plain::Plain;
use crate::engine::postgres_set::{Array, arrays, copy};
use crate::engine::postgres_tls::Target;
use crate::error::StoreError;
use crate::tx::{Column, Hot};
use crate::value::{Row, Value};
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

/// A connection must be open and logged in by then.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A statement that runs longer is ended by the server. The longest honest one walks a million tasks, which takes a
/// second or two; ten times that is left for a slow disk, and for waiting until other nodes have written.
const STATEMENT_MAX: Duration = Duration::from_secs(30);
/// A statement whose answer has not come by then gets none: the server is stopped, or the way to it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(35);
/// A session in which a transaction stands still is ended by the server: its node hangs, and others wait for its
/// locks. Between two statements of ours there is only computing.
const IDLE_IN_TRANSACTION_MAX: Duration = Duration::from_secs(5);
/// How long it is tried to learn what became of a commit whose answer was lost: longer than most restarts take. Others
/// wait meanwhile.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// Between two attempts at that.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);

/// How long is waited for what.
#[derive(Clone, Copy)]
struct Limits {
    /// Opening a session.
    connect: Duration,
    /// What a statement may take; zero: as long as it likes.
    statement: Duration,
    /// An answer to a statement.
    answer: Duration,
}

const SHORT: Limits = Limits { connect: CONNECT_WITHIN, statement: STATEMENT_MAX, answer: ANSWER_WITHIN };
const LONG: Limits = Limits { connect: CONNECT_WITHIN, statement: Duration::ZERO, answer: Duration::MAX };

/// A client with its prepared statements, used by one thread: its connection moves while that thread waits for it.
pub(crate) struct PgConn {
    url: String,
    client: Client,
    runtime: Runtime,
    prepared: HashMap<&'static str, Statement>,
    /// An answer may still come for what nobody waits for any more.
    given_up: bool,
    answer_within: Duration,
    /// The transaction that [`PgConn::begin`] began, as the server names it, if it may write.
    transaction: Option<String>,
    /// What [`PgConn::later`] was told of, until the next statement.
    unsent: String,
    /// Some of that failed: the transaction is not what whoever put it off takes it for.
    unsound: bool,
}

impl PgConn {
    /// Connects, for work that is made of short statements.
    pub(crate) fn connect(url: &str) -> Result<Self, StoreError> {
        Self::open(url, SHORT)
    }

    /// The same, for statements that read: whatever else is asked of it is refused, inside a transaction or not.
    pub(crate) fn connect_to_read(url: &str) -> Result<Self, StoreError> {
        let mut conn = Self::connect(url)?;
        conn.batch("SET default_transaction_read_only = on")?;
        Ok(conn)
    }

    /// For statements that are no texts of ours: a transfer's.
    pub(crate) fn client(&mut self) -> Plain<'_> {
        Plain { runtime: &self.runtime, client: &self.client }
    }

    /// Connects for what may take hours, such as a migration that makes an index on a large table.
    pub(crate) fn connect_for_long(url: &str) -> Result<Self, StoreError> {
        Self::open(url, LONG)
    }

    fn open(url: &str, limits: Limits) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| StoreError::Unavailable(format!("cannot start a client: {error}")))?;
        let opened = runtime.block_on(async {
            tokio::time::timeout(limits.connect, log_in(url, limits.statement)).await.unwrap_or_else(|_| {
                Err(StoreError::Unavailable(format!("it lets nobody in within {:?}", limits.connect)))
            })
        });
        let client = match opened {
            Ok(client) => client,
            Err(error) => {
                // A look-up of a name may still hang.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        Ok(Self {
            url: url.to_owned(),
            client,
            runtime,
            prepared: HashMap::new(),
            given_up: false,
            answer_within: limits.answer,
            transaction: None,
            unsent: String::new(),
            unsound: false,
        })
    }

    /// Whether it is known to be of no use any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.given_up || self.client.is_closed()
    }

    /// Looks whether the server ended the connection while nobody used it.
    pub(crate) fn has_ended(&self) -> bool {
        // The first turn finds what has come, the second lets the connection take it.
        self.runtime.block_on(async {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        });
        self.is_closed()
    }

    /// Waits for an answer, but not for ever.
    fn wait<T>(
        runtime: &Runtime,
        given_up: &mut bool,
        within: Duration,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        if *given_up {
            return Err(Failure::Silence(within));
        }
        let outcome = runtime.block_on(async {
            // `timeout` cannot add the longest of all times to now.
            if within == Duration::MAX {
                Ok(answer.await)
            } else {
                tokio::time::timeout(within, answer).await
            }
        });
        if let Ok(outcome) = outcome {
            return outcome.map_err(Failure::Said);
        }
        *given_up = true;
        Err(Failure::Silence(within))
    }

    pub(crate) fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.try_batch(sql).map_err(StoreError::from)
    }

    fn try_batch(&mut self, sql: &str) -> Result<(), Failure> {
        let Self { runtime, given_up, client, answer_within, unsent, .. } = self;
        let mut all = std::mem::take(unsent);
        all.push_str(sql);
        Self::wait(runtime, given_up, *answer_within, client.batch_execute(&all))
    }

    /// Whether all that was put off in this transaction was done, as far as it was sent.
    pub(crate) fn is_sound(&self) -> bool {
        !self.unsound
    }

    /// Sends `sql` together with the next statement, which saves a round trip; if it fails, so does that one.
    pub(crate) fn later(&mut self, sql: &str) {
        self.unsent.push_str(sql);
        self.unsent.push_str("; ");
    }

    /// Forgets what was put off for another transaction.
    pub(crate) fn forget(&mut self) {
        self.unsent.clear();
        self.unsound = false;
    }

    /// Ends a transaction that only read: nothing depends on the answer, so nobody waits for it.
    pub(crate) fn leave(&mut self) {
        if !std::mem::take(&mut self.unsent).is_empty() {
            // Nothing was asked, so nothing was begun.
            return;
        }
        let Self { runtime, client, .. } = self;
        runtime.block_on(async {
            // Asking for it hands it to the connection, the turn after that lets the connection send it.
            tokio::select! {
                biased;
                _ = client.batch_execute("COMMIT") => (),
                () = tokio::task::yield_now() => (),
            }
        });
    }

    /// Begins a transaction. If what begins it answers a column `xid`, that names it for [`PgConn::commit`].
    pub(crate) fn begin(&mut self, sql: &str) -> Result<(), StoreError> {
        self.forget();
        let Self { runtime, given_up, client, answer_within, .. } = self;
        let said = Self::wait(runtime, given_up, *answer_within, client.simple_query(sql))?;
        self.transaction = said.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.try_get("xid").ok().flatten().map(str::to_owned),
            _ => None,
        });
        Ok(())
    }

    /// Ends a transaction with `sql`. If the connection is lost before the answer, a new one is asked what became
    /// of it: who is told that it failed may rely on that.
    pub(crate) fn commit(&mut self, sql: &str) -> Result<(), StoreError> {
        let transaction = self.transaction.take();
        let Err(failure) = self.try_batch(sql) else { return Ok(()) };
        match transaction {
            Some(transaction) if failure.leaves_open() => self.settle(&transaction, failure.into()),
            _ => Err(failure.into()),
        }
    }

    fn settle(&mut self, transaction: &str, error: StoreError) -> Result<(), StoreError> {
        tracing::warn!(%error, "a commit was not answered; asking what became of it");
        let Self { runtime, url, .. } = self;
        let asked = runtime.block_on(async {
            tokio::time::timeout(SETTLE_WITHIN, async {
                loop {
                    if let Ok(told) = became(url, transaction).await {
                        return told;
                    }
                    tokio::time::sleep(SETTLE_PAUSE).await;
                }
            })
            .await
        });
        let Ok((client, committed)) = asked else {
            // Nothing is tried again on it: that might write twice.
            self.given_up = true;
            return Err(StoreError::Unavailable(format!(
                "it is not known whether a change was written: {error}"
            )));
        };
        (self.client, self.given_up) = (client, false);
        self.prepared.clear();
        if committed { Ok(()) } else { Err(error) }
    }

    fn prepare(&mut self, sql: &'static str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let Self { runtime, given_up, client, answer_within, .. } = self;
        let statement = Self::wait(runtime, given_up, *answer_within, client.prepare(&dollars(sql)))?;
        self.prepared.insert(sql, statement.clone());
        Ok(statement)
    }

    fn execute(&mut self, sql: &'static str, params: &[&(dyn ToSql + Sync)]) -> Result<usize, StoreError> {
        let statement = self.prepare(sql)?;
        let Self { runtime, given_up, client, answer_within, unsent, unsound, .. } = self;
        let answer = behind(client, std::mem::take(unsent), unsound, client.execute(&statement, params));
        let changed = Self::wait(runtime, given_up, *answer_within, answer)?;
        Ok(changed as usize)
    }

    fn rows(
        &mut self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
        each: &mut dyn FnMut(&Row<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let statement = self.prepare(sql)?;
        let Self { runtime, given_up, client, answer_within, unsent, unsound, .. } = self;
        let answer = behind(client, std::mem::take(unsent), unsound, client.query(&statement, params));
        let rows = Self::wait(runtime, given_up, *answer_within, answer)?;
        rows.iter().try_for_each(|row| each(&Row::Postgres(row)))
    }

    pub(crate) fn exec(&mut self, sql: &'static str, params: &[Value<'_>]) -> Result<usize, StoreError> {
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
        self.execute(sql, &params)
    }

    pub(crate) fn query(
        &mut self,
        sql: &'static str,
        params: &[Value<'_>],
        each: &mut dyn FnMut(&Row<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
        self.rows(sql, &params, each)
    }

    pub(crate) fn exec_set(&mut self, hot: &Hot, rows: &[Vec<Value<'_>>]) -> Result<usize, StoreError> {
        let arrays = arrays(hot.columns, rows);
        let params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(Array::as_sql).collect();
        self.execute(hot.set, &params)
    }

    /// Adds rows by a binary COPY that `sql` begins.
    pub(crate) fn copy(
        &mut self,
        sql: &'static str,
        columns: &[Column],
        rows: &[Vec<Value<'_>>],
    ) -> Result<(), StoreError> {
        let statement = self.prepare(sql)?;
        let Self { runtime, given_up, client, answer_within, unsent, unsound, .. } = self;
        let copied = copy(client, &statement, columns, rows);
        let answer = behind(client, std::mem::take(unsent), unsound, copied);
        Self::wait(runtime, given_up, *answer_within, answer)?;
        Ok(())
    }

    pub(crate) fn query_set(
        &mut self,
        hot: &Hot,
        keys: &[Vec<Value<'_>>],
        each: &mut dyn FnMut(&Row<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let arrays = arrays(hot.columns, keys);
        let params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(Array::as_sql).collect();
        self.rows(hot.set, &params, each)
    }
}

/// Opens a session and says what it may do to others.
async fn log_in(url: &str, statement_max: Duration) -> Result<Client, StoreError> {
    let (client, connection) = Target::read(url)?.connect().await?;
    // It moves when somebody waits for this runtime; its errors reach whoever waits for an answer.
    tokio::spawn(connection);
    // A batch makes a large table out of an empty one within seconds, and PostgreSQL goes on reading it from end to end,
    // for each device, until it is analyzed. There is an index for whatever a statement here looks for. (It also takes a
    // plan with a forbidden scan for so expensive that compiling it would pay.)
    let settings = format!(
        "SET client_min_messages = warning; SET enable_seqscan = off; SET jit = off; SET statement_timeout = {}; \
         SET idle_in_transaction_session_timeout = {}",
        statement_max.as_millis(),
        IDLE_IN_TRANSACTION_MAX.as_millis()
    );
    client.batch_execute(&settings).await.map_err(|why| error(&why))?;
    Ok(client)
}

/// Asks on a new connection whether a transaction was committed; fails as long as that cannot be told.
async fn became(url: &str, transaction: &str) -> Result<(Client, bool), StoreError> {
    let client = log_in(url, STATEMENT_MAX).await?;
    let sql = "SELECT pg_xact_status(CAST(CAST($1 AS TEXT) AS xid8))";
    let status: Option<String> = match client.query_one(sql, &[&transaction]).await {
        Ok(row) => row.try_get(0).map_err(|why| error(&why))?,
        // A server that does not know it yet, and took over from the one that did, never got it.
        Err(why) if why.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => Some("aborted".to_owned()),
        Err(why) => return Err(error(&why)),
    };
    match status.as_deref() {
        Some("committed") => Ok((client, true)),
        Some("aborted") => Ok((client, false)),
        // Its session has not noticed yet that nobody is there.
        _ => Err(StoreError::Unavailable("the transaction has not ended".to_owned())),
    }
}

/// Sends what was put off, and a statement right behind it.
async fn behind<T>(
    client: &Client,
    unsent: String,
    unsound: &mut bool,
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, tokio_postgres::Error> {
    if unsent.is_empty() {
        return answer.await;
    }
    // What is polled first is sent first.
    let (sent, answered) = tokio::join!(biased; client.batch_execute(&unsent), answer);
    *unsound |= sent.is_err();
    sent.and(answered)
}

/// Rewrites `?1` to `$1`. Our texts hold no question mark elsewhere.
fn dollars(sql: &str) -> String {
    sql.replace('?', "$")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    const HASTY: Limits = Limits {
        connect: Duration::from_millis(300),
        statement: Duration::ZERO,
        answer: Duration::from_millis(300),
    };

    /// A server that does no more than `talk` with whoever comes first, and then says nothing; its URL.
    fn server(talk: fn(&mut TcpStream)) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://u:geheim@{}/db?sslmode=disable", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            talk(&mut stream);
            // Until the client goes.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        url
    }

    /// Takes a packet that one read gets whole.
    fn hear(stream: &mut TcpStream) {
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
    }

    const READY: &[u8] = b"Z\0\0\0\x05I";

    fn lets_in(stream: &mut TcpStream) {
        hear(stream);
        stream.write_all(b"R\0\0\0\x08\0\0\0\0").unwrap();
        stream.write_all(READY).unwrap();
        hear(stream);
        stream.write_all(b"C\0\0\0\x08SET\0").unwrap();
        stream.write_all(READY).unwrap();
    }

    #[test]
    fn a_server_that_accepts_and_says_nothing_is_given_up() {
        let refused = PgConn::open(&server(|_| {}), HASTY).err().map(|error| error.to_string()).unwrap();
        assert!(refused.contains("lets nobody in within 300ms") && !refused.contains("geheim"), "{refused}");
    }

    #[test]
    fn a_statement_without_an_answer_is_given_up_and_its_connection_with_it() {
        let mut conn = PgConn::open(&server(lets_in), HASTY).unwrap();
        assert!(!conn.has_ended());
        let refused = conn.batch("SELECT 1").unwrap_err();
        assert!(
            matches!(&refused, StoreError::Unavailable(why) if why.contains("did not answer")),
            "{refused}"
        );
        assert!(conn.is_closed(), "a late answer would be taken for another's");
    }

    #[test]
    fn a_connection_that_the_server_ended_meanwhile_is_known_to_be_dead() {
        let url = server(|stream| {
            lets_in(stream);
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        });
        let conn = PgConn::open(&url, HASTY).unwrap();
        while !conn.has_ended() {
            std::thread::yield_now();
        }
    }
}
