//! The PROXY protocol: what a load balancer says of a connection before the connection's own first byte.
//!
//! Reads exactly the header and no byte of what follows. Who may send one is decided in [`crate::net`].

use ppp::{v1, v2};
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt};

/// How a header of version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// A header of version 2 up to its length.
const FIXED_BYTES: usize = 16;
/// Longest part of a version 2 header after its length: addresses and what the balancer tells beside them
/// (certificates, names of networks). Known ones send some hundred bytes.
pub const REST_BYTES_MAX: usize = 4_096;
/// Longest header of version 1, as its specification says.
const LINE_BYTES_MAX: usize = 107;

/// Whom a header says the connection is between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub remote: SocketAddr,
    /// Where the client connected to.
    pub local: SocketAddr,
}

/// Why a header is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is none.
    #[error("no PROXY header came first")]
    Missing,
    /// It is longer than [`REST_BYTES_MAX`].
    #[error("the PROXY header is longer than {REST_BYTES_MAX} bytes")]
    TooLong,
    /// It is malformed.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(String),
    /// The connection ended or broke within it.
    #[error("the connection broke within the PROXY header: {0}")]
    Broken(#[from] io::Error),
}

/// Reads the header that a connection begins with. `None`: it names no addresses (a check of the balancer
/// itself, or a connection whose ends it does not know), so those of the connection count.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<Ends>, Refused> {
    let mut fixed = [0; FIXED_BYTES];
    // No header of either version is shorter.
    let start = SIGNATURE.len();
    stream.read_exact(&mut fixed[..start]).await?;
    if &fixed[..start] == SIGNATURE {
        stream.read_exact(&mut fixed[start..]).await?;
        let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
        if length > REST_BYTES_MAX {
            return Err(Refused::TooLong);
        }
        let mut header = fixed.to_vec();
        header.resize(FIXED_BYTES + length, 0);
        stream.read_exact(&mut header[FIXED_BYTES..]).await?;
        return binary(&header);
    }
    if !fixed.starts_with(b"PROXY ") {
        return Err(Refused::Missing);
    }
    let mut line = fixed[..start].to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE_BYTES_MAX {
            return Err(Refused::Malformed("its line does not end".to_owned()));
        }
        line.push(stream.read_u8().await?);
    }
    text(&line)
}

fn binary(header: &[u8]) -> Result<Option<Ends>, Refused> {
    let header = v2::Header::try_from(header).map_err(|error| Refused::Malformed(error.to_string()))?;
    if header.command == v2::Command::Local {
        return Ok(None);
    }
    Ok(match header.addresses {
        v2::Addresses::IPv4(ends) => Some(Ends {
            remote: (ends.source_address, ends.source_port).into(),
            local: (ends.destination_address, ends.destination_port).into(),
        }),
        v2::Addresses::IPv6(ends) => Some(Ends {
            remote: (ends.source_address, ends.source_port).into(),
            local: (ends.destination_address, ends.destination_port).into(),
        }),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    })
}

fn text(line: &[u8]) -> Result<Option<Ends>, Refused> {
    let header = v1::Header::try_from(line).map_err(|error| Refused::Malformed(error.to_string()))?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(ends) => Some(Ends {
            remote: (ends.source_address, ends.source_port).into(),
            local: (ends.destination_address, ends.destination_port).into(),
        }),
        v1::Addresses::Tcp6(ends) => Some(Ends {
            remote: (ends.source_address, ends.source_port).into(),
            local: (ends.destination_address, ends.destination_port).into(),
        }),
        v1::Addresses::Unknown => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// What is read of these bytes, and what of them is left.
    fn of(bytes: &[u8]) -> (Result<Option<Ends>, Refused>, usize) {
        let mut rest = bytes;
        let outcome = {
            let reading = pin!(read(&mut rest));
            match reading.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => unreachable!("a slice is always ready"),
            }
        };
        (outcome, rest.len())
    }

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [203, 0, 113, 7, 198, 51, 100, 1, 0x30, 0x39, 0x07, 0x5b];

    fn ends(remote: &str, local: &str) -> Ends {
        Ends { remote: remote.parse().unwrap(), local: local.parse().unwrap() }
    }

    #[test]
    fn both_versions_name_the_ends_and_nothing_else_is_read() {
        let v4 = ends("203.0.113.7:12345", "198.51.100.1:1883");
        let mut six = [0; 36];
        (six[0], six[1], six[15], six[31]) = (0x20, 0x01, 7, 1);
        six[32..].copy_from_slice(&[0x30, 0x39, 0x07, 0x5b]);
        let v6 = ends("[2001::7]:12345", "[::1]:1883");
        // A checksum, a name, and a kind that nobody knows.
        let extras = [&V4[..], &[0x03, 0, 4, 1, 2, 3, 4, 0x02, 0, 2, b'a', b'b', 0xee, 0, 0]].concat();
        for (header, wanted) in [
            (header(0x21, 0x11, &V4), Some(v4)),
            (header(0x21, 0x11, &extras), Some(v4)),
            // What comes after the addresses is not even looked at.
            (header(0x21, 0x11, &[&V4[..], &[0xff; 9]].concat()), Some(v4)),
            (header(0x21, 0x21, &six), Some(v6)),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &V4), None),
            (header(0x21, 0x00, &[1, 2, 3]), None),
            (header(0x21, 0x31, &[0; 216]), None),
            (b"PROXY TCP4 203.0.113.7 198.51.100.1 12345 1883\r\n".to_vec(), Some(v4)),
            (b"PROXY TCP6 2001::7 ::1 12345 1883\r\n".to_vec(), Some(v6)),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN whatever 1 2 3\r\n".to_vec(), None),
        ] {
            let (outcome, left) = of(&[&header[..], b"\x10rest"].concat());
            assert_eq!((outcome.unwrap(), left), (wanted, 5), "{header:?}");
            for cut in 0..header.len() {
                assert!(matches!(of(&header[..cut]).0, Err(Refused::Broken(_))), "cut at {cut}: {header:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let missing = [b"\x10\x20\x00\x04MQTT\x04\xc2\x00\x3c".to_vec(), b"GET / HTTP/1.1\r\n\r\n".to_vec()];
        for bytes in missing {
            assert!(matches!(of(&bytes).0, Err(Refused::Missing)), "{bytes:?}");
        }
        let too_long = [&header(0x21, 0x11, &[])[..14], &[0x10, 0x01]].concat();
        assert!(matches!(of(&too_long).0, Err(Refused::TooLong)), "before a byte of it is taken");
        for bytes in [
            header(0x11, 0x11, &V4),
            header(0x22, 0x11, &V4),
            header(0x21, 0x41, &V4),
            header(0x21, 0x13, &V4),
            header(0x21, 0x11, &V4[..11]),
            b"PROXY TCP4 203.0.113.7 198.51.100.1 12345 188399\r\n".to_vec(),
            b"PROXY TCP4 2001::7 ::1 12345 1883\r\n".to_vec(),
            b"PROXY TCP9 203.0.113.7 198.51.100.1 12345 1883\r\n".to_vec(),
            [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(),
            b"PROXY \xff\xfe\xfd\xfc\xfb\xfa\xf9\r\n".to_vec(),
        ] {
            assert!(matches!(of(&bytes).0, Err(Refused::Malformed(_))), "{bytes:?}: {:?}", of(&bytes));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            start in prop::sample::select(vec![&SIGNATURE[..], b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ::", b""]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let (_, left) = of(&[start, &rest].concat());
            prop_assert!(left <= rest.len() + start.len());
        }

        #[test]
        fn no_line_panics(line in "PROXY (TCP4|TCP6|UNKNOWN)?[ 0-9a-f.:]{0,100}\r?\n?") {
            let _ = of(line.as_bytes());
        }
    }
}
