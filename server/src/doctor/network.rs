//! Ports, certificate, public address.

use super::{Finding, Patient};
use crate::tls::{Identity, validity};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, SystemTime};

/// How long a running server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A certificate with less left than this is warned about.
const DAYS_LOW: u64 = 14;
const SECONDS_OF_A_DAY: u64 = 86_400;

const CERTIFICATE: &str = "certificate";
const PUBLIC_URL: &str = "public url";

/// Whether the ports are free, or our own server's, which then is asked whether it serves.
pub(super) fn ports(patient: &Patient<'_>) -> Vec<Finding> {
    let config = patient.config;
    let run = patient.running.as_ref();
    let mut findings = vec![
        port("API port", config.api_addr, run.map(|run| run.api_addr.as_str())),
        port("MQTT port", config.mqtt_addr, run.map(|run| run.mqtt_addr.as_str())),
    ];
    for (check, addr, ours) in [
        ("MQTT TLS port", config.mqtt_tls_addr, run.map(|run| run.mqtt_tls_addr.as_str())),
        ("MQTT WebSocket port", config.mqtt_ws_addr, run.map(|run| run.mqtt_ws_addr.as_str())),
    ] {
        findings.extend(addr.map(|addr| port(check, addr, ours)));
    }
    // Nobody wrote down which port a running server has for metrics; that it runs is good enough.
    if let (Some(addr), None) = (config.metrics_addr, run) {
        findings.push(port("metrics port", addr, None));
    }
    if let Some(run) = run {
        findings.push(ready(&run.api_addr));
    }
    findings
}

fn port(check: &'static str, addr: SocketAddr, ours: Option<&str>) -> Finding {
    let ours = ours.and_then(|text| text.parse::<SocketAddr>().ok());
    if let Some(ours) = ours
        && (addr.port() == 0 || addr.port() == ours.port())
    {
        return Finding::good(check, format!("{ours} is our running server's"));
    }
    let Err(error) = TcpListener::bind(addr) else {
        return Finding::good(
            check,
            if addr.port() == 0 { "any free one".to_owned() } else { format!("{addr} is free") },
        );
    };
    let action = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "Another program has it (`ss -ltnp` tells which): stop that, or choose another port.".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "Choose a port above 1023, or give the unit AmbientCapabilities=CAP_NET_BIND_SERVICE.".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is no address of this machine: choose one that is, or 0.0.0.0.", addr.ip())
        }
        _ => "Choose another address.".to_owned(),
    };
    Finding::broken(
        check,
        format!("{addr} cannot be had: {error}"),
        "A server refuses to start without it.",
        action,
    )
}

/// Asks a running server whether it serves.
fn ready(api_addr: &str) -> Finding {
    const CHECK: &str = "server";
    let why = "Calls are not answered at this moment.";
    let ask = || -> io::Result<String> {
        let addr: SocketAddr = api_addr.parse().map_err(io::Error::other)?;
        let mut stream = TcpStream::connect_timeout(&reachable(addr), ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        // An answer of a few lines; no more of it is wanted, whoever it is.
        stream.take(4_096).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    match ask() {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") => {
            Finding::good(CHECK, format!("it is ready on {api_addr}"))
        }
        Ok(answer) => {
            let line = answer.lines().next().unwrap_or_default().to_owned();
            let action = "It starts or stops just now; if this stays, look at its log.";
            Finding::broken(CHECK, format!("it is not ready: {line}"), why, action)
        }
        Err(error) => {
            let what = format!("it runs, but does not answer on {api_addr}: {error}");
            Finding::broken(CHECK, what, why, "Look at its log; a restart loses nothing.")
        }
    }
}

/// An address that one can connect to: nobody is at 0.0.0.0.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// Whether the certificate can be used, and for how long.
pub(super) fn certificate(patient: &Patient<'_>) -> Vec<Finding> {
    let config = patient.config;
    let tls = config.data_dir.join("tls");
    let given = config.tls_cert.clone().zip(config.tls_key.clone());
    let own = given.is_none();
    let (cert, key) = given.unwrap_or_else(|| (tls.join("server.pem"), tls.join("server-key.pem")));
    if own && !cert.exists() {
        return vec![Finding::good(CERTIFICATE, "it is not there yet; the first start makes it")];
    }
    let loaded = Identity::load(&cert, &key).and_then(|identity| identity.certified());
    let certified = match loaded {
        Ok(certified) => certified,
        Err(error) => {
            let what = format!("{}: {error}", cert.display());
            // The next start makes a new one of our own; a given one is somebody else's to mend.
            let why =
                if own { "The next start makes a new one." } else { "A server with it refuses to start." };
            let action = "Give `tls_cert` the chain and `tls_key` its key, both PEM, readable by this user.";
            return vec![if own {
                Finding::warning(CERTIFICATE, what, why, "Restart the server.")
            } else {
                Finding::broken(CERTIFICATE, what, why, action)
            }];
        }
    };
    let end = certified.cert.first().and_then(|cert| validity(cert)).map(|valid| valid.end);
    vec![judge_end(end, patient.now)]
}

fn judge_end(end: Option<SystemTime>, now: SystemTime) -> Finding {
    let action = "Renew it; a running server takes the new files within a minute, or at once on SIGHUP.";
    match end.map(|end| end.duration_since(now)) {
        None => Finding::warning(
            CERTIFICATE,
            "its end cannot be told",
            "When it ends, clients refuse it.",
            "Look at it with `openssl x509 -enddate`.",
        ),
        Some(Err(_)) => Finding::broken(CERTIFICATE, "its time is over", "Clients refuse it.", action),
        Some(Ok(left)) if left.as_secs() < DAYS_LOW * SECONDS_OF_A_DAY => Finding::warning(
            CERTIFICATE,
            format!("{} days are left", left.as_secs() / SECONDS_OF_A_DAY),
            "When they are over, clients refuse it.",
            action,
        ),
        Some(Ok(left)) => Finding::good(
            CERTIFICATE,
            format!("it fits its key; {} days are left", left.as_secs() / SECONDS_OF_A_DAY),
        ),
    }
}

/// Whether the address that upload and download URLs begin with can be meant so.
pub(super) fn public_url(patient: &Patient<'_>) -> Vec<Finding> {
    vec![match patient.config.public_base() {
        None => Finding::good(PUBLIC_URL, "none: URLs use the address that the caller connected to"),
        Some(base) => judge_url(base),
    }]
}

fn judge_url(base: &str) -> Finding {
    let why = "Upload and download URLs begin with it.";
    let parsed = base.parse::<http::Uri>().ok().filter(|uri| uri.query().is_none());
    let Some((uri, host)) = parsed.as_ref().and_then(|uri| Some((uri, uri.host()?))) else {
        let action = "Give scheme, host and port only, such as http://ota.example.com:8080.";
        return Finding::broken(PUBLIC_URL, format!("{base} is no base address"), why, action);
    };
    let bare = host.trim_matches(['[', ']']);
    let unspecified = bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    if unspecified {
        let action = "Give the name or address that devices reach this server by.";
        return Finding::broken(PUBLIC_URL, format!("nobody can connect to {host}"), why, action);
    }
    let loopback = bare.parse::<IpAddr>().map_or(bare == "localhost", |ip| ip.is_loopback());
    if loopback {
        let action = "Give the name or address that devices reach this server by.";
        return Finding::warning(PUBLIC_URL, format!("{host} is this machine only"), why, action);
    }
    if !matches!(uri.path(), "" | "/") {
        let action = "Make sure that the proxy in front takes the path away again.";
        return Finding::warning(PUBLIC_URL, format!("{base} has a path"), why, action);
    }
    if uri.scheme_str() == Some("https") {
        let what = format!("{base} is https");
        let why = "Devices download from it, and many Link SDKs trust the platform's authorities only.";
        let action = "Make sure that the devices trust the certificate, or use http: devices check the digest that MQTT brings.";
        return Finding::warning(PUBLIC_URL, what, why, action);
    }
    Finding::good(PUBLIC_URL, base)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn public_addresses_are_judged() {
        for (base, level) in [
            ("http://ota.example.com:8080", Level::Good),
            ("http://10.0.0.7", Level::Good),
            ("http://[2001:db8::7]:8080", Level::Good),
            ("https://ota.example.com", Level::Warning),
            ("http://ota.example.com/updraft", Level::Warning),
            ("http://localhost:8080", Level::Warning),
            ("http://127.0.0.1:8080", Level::Warning),
            ("http://[::1]:8080", Level::Warning),
            ("http://0.0.0.0:8080", Level::Broken),
            ("http://", Level::Broken),
            ("http://a b", Level::Broken),
            ("http://ota.example.com/?x=1", Level::Broken),
        ] {
            assert_eq!(judge_url(base).level, level, "{base}");
        }
    }

    #[test]
    fn a_taken_port_is_found() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let finding = port("API port", addr, None);
        assert_eq!(finding.level, Level::Broken);
        assert!(finding.action.contains("Another program has it"), "{finding:?}");
        assert_eq!(port("API port", addr, Some(&addr.to_string())).level, Level::Good, "it is ours");
        assert_eq!(ready("127.0.0.1:1").level, Level::Broken);
        assert_eq!(port("API port", ([192, 0, 2, 1], 8080).into(), None).level, Level::Broken);
    }

    #[test]
    fn the_end_of_a_certificate_is_judged() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let after = |days: u64| Some(now + Duration::from_secs(days * SECONDS_OF_A_DAY));
        assert_eq!(judge_end(after(90), now).level, Level::Good);
        assert_eq!(judge_end(after(13), now).level, Level::Warning);
        assert_eq!(judge_end(Some(now - Duration::from_secs(1)), now).level, Level::Broken);
        assert_eq!(judge_end(None, now).level, Level::Warning);
    }
}
