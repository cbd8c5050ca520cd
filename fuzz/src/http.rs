//! HTTP by hand: requests as bytes, answers read strictly. Blocking, one thread.

use crate::{Broken, shown};
use socket2::SockRef;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// No answer and no close takes longer, unless the server is broken.
const PATIENCE: Duration = Duration::from_secs(20);
/// A request that looks whole gets so long to be answered before our side of the connection is closed.
const WHOLE_WITHIN: Duration = Duration::from_millis(500);

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

fn dial(addr: SocketAddr) -> Result<TcpStream, Broken> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Thousands of connections a minute would use up the ports if each of them lingered.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

/// A client that keeps its connection.
pub struct Client {
    addr: SocketAddr,
    stream: Option<TcpStream>,
}

impl Client {
    /// A client of the server at this address; connects when it must.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, stream: None }
    }

    /// Sends a whole request and reads its answer.
    pub fn exchange(&mut self, request: &[u8]) -> Result<Answer, Broken> {
        // A kept connection may have been closed meanwhile.
        if let Some(mut stream) = self.stream.take()
            && let Ok(Some(answer)) = one(&mut stream, request)
        {
            self.keep(stream, &answer);
            return Ok(answer);
        }
        let mut stream = dial(self.addr)?;
        let answer = one(&mut stream, request)?;
        let answer = answer.ok_or_else(|| Broken::new("closed without an answer", shown(request)))?;
        self.keep(stream, &answer);
        Ok(answer)
    }

    fn keep(&mut self, stream: TcpStream, answer: &Answer) {
        let close = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        self.stream = (!close).then_some(stream);
    }
}

fn one(stream: &mut TcpStream, request: &[u8]) -> Result<Option<Answer>, Broken> {
    // The server may answer and close before it has read all.
    let _ = stream.write_all(request);
    let mut inbox = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some((answer, _)) = parse(&inbox)? {
            return Ok(Some(answer));
        }
        if !read_some(stream, &mut inbox, deadline)? {
            return Ok(None);
        }
    }
}

/// Sends bytes of any kind on a connection of their own, closes our side, and reads all answers. The server
/// must answer or close in time, and every answer must be whole.
pub fn storm(addr: SocketAddr, bytes: &[u8]) -> Result<Vec<Answer>, Broken> {
    let mut stream = dial(addr)?;
    let _ = stream.write_all(bytes);
    let mut inbox = Vec::new();
    if looks_whole(bytes) {
        let until = Instant::now() + WHOLE_WITHIN;
        while parse(&inbox)?.is_none() {
            match read_some(&mut stream, &mut inbox, until) {
                Ok(true) => {}
                // Not answered yet: what looked whole perhaps is not.
                Ok(false) | Err(_) => break,
            }
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let deadline = Instant::now() + PATIENCE;
    while read_some(&mut stream, &mut inbox, deadline)? {}
    let mut answers = Vec::new();
    let mut rest = &inbox[..];
    while !rest.is_empty() {
        match parse(rest)? {
            Some((answer, used)) => {
                answers.push(answer);
                rest = &rest[used..];
            }
            // What begins like TLS is answered by TLS.
            None if bytes.first() == Some(&0x16) && rest.first() == Some(&0x15) => break,
            // To a HEAD, the length is said and no body comes.
            None if bytes.windows(4).any(|word| word == b"HEAD") => break,
            None => return Err(Broken::new("an answer is cut short", shown(rest))),
        }
    }
    Ok(answers)
}

/// Reads what is there; false at the end of the stream.
fn read_some(stream: &mut TcpStream, inbox: &mut Vec<u8>, deadline: Instant) -> Result<bool, Broken> {
    let left = deadline.saturating_duration_since(Instant::now());
    stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
    let mut piece = [0; 16 * 1024];
    match stream.read(&mut piece) {
        Ok(0) => Ok(false),
        Ok(read) => {
            inbox.extend_from_slice(&piece[..read]);
            Ok(true)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(Broken::new("no answer and no close in time", "from the API's port"))
        }
        // A reset is an end too.
        Err(_) => Ok(false),
    }
}

/// Whether a request seems to be complete: only a guess, which saves waiting.
fn looks_whole(bytes: &[u8]) -> bool {
    let Some(head_end) = find(bytes, b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let length = head.split("content-length:").nth(1).and_then(|rest| rest.lines().next());
    let length: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    !head.contains("chunked") && bytes.len() >= head_end.saturating_add(4).saturating_add(length)
}

/// Where `what` begins in `bytes`.
pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The first whole answer, and how many bytes it takes; interim ones are skipped.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>, Broken> {
    let Some(head_end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let strange = || Broken::new("an answer is no HTTP", shown(bytes));
    let head = std::str::from_utf8(&bytes[..head_end]).map_err(|_| strange())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")).ok_or_else(strange)?;
    let status: u16 = status.get(2..5).and_then(|code| code.parse().ok()).ok_or_else(strange)?;
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(strange)?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let body_at = head_end + 4;
    if status < 200 {
        let next = parse(&bytes[body_at..])?;
        return Ok(next.map(|(answer, used)| (answer, body_at + used)));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    let length = answer.header("content-length").map_or(Ok(0), str::parse::<usize>).map_err(|_| strange())?;
    let length = if status == 204 || status == 304 { 0 } else { length };
    let Some(body) = bytes.get(body_at..body_at + length) else { return Ok(None) };
    answer.body = body.to_vec();
    Ok(Some((answer, body_at + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        for cut in 0..text.len() {
            assert!(parse(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let (answer, used) = parse(text).unwrap().unwrap();
        assert_eq!((answer.status, &answer.body[..], used), (200, &b"hi"[..], text.len()));
        assert!(parse(b"nonsense\r\n\r\n").is_err());
    }

    #[test]
    fn a_guess_about_requests() {
        assert!(looks_whole(b"GET / HTTP/1.1\r\n\r\n"));
        assert!(!looks_whole(b"GET / HTTP/1.1\r\n"));
        assert!(!looks_whole(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nx"));
    }
}
