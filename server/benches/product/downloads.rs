//! Downloads beside nginx: the same file, the same client, each server alone on one core.

use crate::Scale;
use crate::nginx::{self, Nginx};
use crate::process::{Process, cpu_seconds};
use crate::report::{Reach, Report, number};
use crate::seed::Seeded;
use anyhow::{Context as _, ensure};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The server's core; the client has the next one.
const SERVER_CORE: usize = 0;
/// Kept connections, each in a thread of the client's.
const CONNECTIONS: usize = 16;
const RANGE_BYTES: u64 = 64 * 1024;
/// Rounds in turns, so that the machine's moods reach both.
const ROUNDS: u32 = 3;

/// A server that is measured.
struct Target {
    addr: SocketAddr,
    pid: u32,
    path: String,
}

/// What was downloaded.
#[derive(Default, Clone, Copy)]
struct Found {
    answers: f64,
    bytes: f64,
    seconds: f64,
    cpu: f64,
}

impl Found {
    fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.bytes += other.bytes;
        self.seconds += other.seconds;
        self.cpu += other.cpu;
    }

    fn per_second(&self) -> f64 {
        self.answers / self.seconds
    }

    fn mib_per_second(&self) -> f64 {
        self.bytes / self.seconds / 1_048_576.0
    }

    fn cpu_ms_per_gib(&self) -> f64 {
        self.cpu * 1e3 / (self.bytes / 1_073_741_824.0)
    }
}

/// Measures ranges per second and the throughput of whole files.
pub fn measure(seeded: &Seeded, scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    report.part(&format!("Downloads: one core for the server, {CONNECTIONS} kept connections from another"));
    if std::thread::available_parallelism()?.get() < 2 {
        report.note("SKIPPED: this needs two cores, one for the server and one for the client");
        return Ok(());
    }
    let updraft = Process::start_on(SERVER_CORE, seeded)?;
    let ours = Target { addr: updraft.api, pid: updraft.pid(), path: seeded.image.signed.clone() };
    let nginx = if nginx::is_installed() {
        Some(Nginx::start_on(SERVER_CORE, &seeded.dir.path().join("blobs"))?)
    } else {
        report.note("!!! THERE IS NO BASELINE: nginx is not installed. Debian: apt-get install nginx");
        None
    };
    let yardstick = nginx.as_ref().map(|nginx| Target {
        addr: nginx.addr,
        pid: nginx.pid,
        path: format!("/{}", seeded.image.path),
    });
    for (what, range) in [("64 KiB ranges", Some(RANGE_BYTES)), ("whole files", None)] {
        let lasting = Duration::from_secs(scale.download_seconds) / ROUNDS;
        let (mut mine, mut theirs) = (Found::default(), Found::default());
        for _ in 0..ROUNDS {
            mine.add(download(&ours, seeded.image.bytes, range, lasting)?);
            if let Some(target) = &yardstick {
                theirs.add(download(target, seeded.image.bytes, range, lasting)?);
            }
        }
        rows(report, what, range.is_some(), &mine, yardstick.is_some().then_some(&theirs));
    }
    Ok(())
}

fn rows(report: &mut Report, what: &str, ranges: bool, mine: &Found, theirs: Option<&Found>) {
    let rate = |found: &Found| {
        if ranges {
            format!("{}/s", number(found.per_second()))
        } else {
            format!("{} MiB/s", number(found.mib_per_second()))
        }
    };
    let nginx = theirs.map_or_else(|| "none".to_owned(), |found| format!("nginx: {}", rate(found)));
    let name = format!("{what}, signed address, one core");
    if ranges {
        let reach = Reach::at_least(mine.per_second(), 10_000.0, "/s");
        report.reach(&name, &rate(mine), &reach, &nginx);
    } else {
        report.row(&name, &rate(mine), &nginx);
    }
    if let Some(theirs) = theirs {
        let percent = mine.mib_per_second() / theirs.mib_per_second() * 100.0;
        let reach = Reach::at_least(percent, 70.0, " %");
        report.reach(
            &format!("{what}: of nginx"),
            &format!("{percent:.0} %"),
            &reach,
            "sendfile, one worker on that core",
        );
        report.row(
            &format!("{what}: processor time of the server per GiB"),
            &format!("{:.0} ms", mine.cpu_ms_per_gib()),
            &format!("nginx: {:.0} ms", theirs.cpu_ms_per_gib()),
        );
    }
}

/// Downloads over all connections for a while: ranges at places that move on, or the file again and again.
fn download(target: &Target, size: u64, range: Option<u64>, lasting: Duration) -> anyhow::Result<Found> {
    let cpu = cpu_seconds(target.pid)?;
    let start = Instant::now();
    let until = start + lasting;
    let (mut answers, mut bytes) = (0, 0);
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CONNECTIONS).map(|n| scope.spawn(move || client(target, size, range, n, until))).collect();
        for client in clients {
            let (more, length) = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            answers += more;
            bytes += length;
        }
        anyhow::Ok(())
    })?;
    Ok(Found {
        answers: answers as f64,
        bytes: bytes as f64,
        seconds: start.elapsed().as_secs_f64(),
        cpu: cpu_seconds(target.pid)? - cpu,
    })
}

/// One kept connection; answers how many answers of how many bytes it got.
fn client(
    target: &Target,
    size: u64,
    range: Option<u64>,
    number: usize,
    until: Instant,
) -> anyhow::Result<(u64, u64)> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(SERVER_CORE + 1);
    rustix::thread::sched_setaffinity(None, &cores)?;
    let mut stream = TcpStream::connect(target.addr)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 256 * 1024];
    let (mut answers, mut bytes) = (0, 0);
    let places = size / RANGE_BYTES;
    while Instant::now() < until {
        let place = (number as u64 * 7 + answers) % places * RANGE_BYTES;
        let header = range
            .map_or_else(String::new, |length| format!("Range: bytes={place}-{}\r\n", place + length - 1));
        write!(stream, "GET {} HTTP/1.1\r\nHost: h\r\n{header}\r\n", target.path)?;
        bytes += answer(&mut stream, &mut buffer, range.unwrap_or(size), until)?;
        answers += 1;
    }
    Ok((answers, bytes))
}

/// Reads an answer, which must have this length; a long one only until the time is over. Answers the bytes of its
/// body that came.
fn answer(stream: &mut TcpStream, buffer: &mut [u8], length: u64, until: Instant) -> anyhow::Result<u64> {
    let mut filled = 0;
    let head = loop {
        let read = stream.read(&mut buffer[filled..])?;
        ensure!(read > 0, "the server closed a connection");
        filled += read;
        if let Some(end) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = std::str::from_utf8(&buffer[..head])?;
    ensure!(text.starts_with("HTTP/1.1 20"), "{text}");
    let announced =
        text.lines().find_map(|line| line.strip_prefix("Content-Length: ")).context("no length")?;
    ensure!(announced.parse::<u64>()? == length, "{announced} bytes are not {length}");
    let mut came = (filled - head) as u64;
    while came < length && (length <= RANGE_BYTES || Instant::now() < until) {
        let read = stream.read(buffer)?;
        ensure!(read > 0, "the server closed a connection");
        came += read as u64;
    }
    Ok(came)
}
