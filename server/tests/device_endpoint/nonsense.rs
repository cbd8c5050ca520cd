//! Mutated bytes: whatever comes, nothing panics.

use super::world::*;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::AsyncWriteExt;
use updraft_core::limits::{MQTT_PAYLOAD_BYTES_MAX, PROGRESS_DESC_CHARS_MAX};
use updraft_server::device::link::DeviceEvent;
use updraft_server::device::{file_download, firmware_get, inform, progress};

/// Xorshift: the same nonsense in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(5) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = [0, 0xff, 0x80, b'|', b'"', b'{'][self.below(6)],
                2 if !bytes.is_empty() => drop(bytes.remove(at)),
                3 => bytes.insert(at, self.below(256) as u8),
                4 => bytes.truncate(at),
                _ => {
                    let again = bytes[at..].to_vec();
                    bytes.extend(again);
                }
            }
            bytes.truncate(4_096);
        }
    }
}

#[test]
fn no_bytes_make_a_connection_panic() {
    const WORKER: &str = "nonsense-worker";
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    // The endpoint survives its panics, so they are counted where they start.
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() == Some(WORKER) {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        before(info);
    }));
    let seeds = [
        publish(INFORM, Some(1), r#"{"id":1,"params":{"version":"1.0.0","module":"MCU"}}"#),
        publish(PROGRESS, None, r#"{"id":"2","params":{"step":"50","desc":"\u8def"}}"#),
        publish(GET, Some(3), r#"{"id":"123","version":"1.0","params":{"module":"MCU"}}"#),
        subscribe(4, &[(UPGRADE, 1), ("/sys/a1TestPk001/dev01/#", 0)]),
        unsubscribe(5, UPGRADE),
        puback(6),
        PINGREQ.to_vec(),
        vec![0xe0, 0],
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(WORKER)
        .enable_all()
        .build()
        .unwrap();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let connects = [Connect::python(), Connect::c(), Connect::by_hand()].map(|connect| connect.bytes());
    let world = runtime.block_on(World::new());
    for _ in 0..1_500 {
        let mut bytes = connects[dice.below(connects.len())].clone();
        if dice.below(4) == 0 {
            dice.mutate(&mut bytes);
        }
        for _ in 0..dice.below(6) {
            let mut seed = seeds[dice.below(seeds.len())].clone();
            if dice.below(2) == 0 {
                dice.mutate(&mut seed);
            }
            bytes.extend(seed);
        }
        runtime.block_on(async {
            let mut client = world.dial().await;
            let _ = client.0.write_all(&bytes).await;
            let _ = client.0.shutdown().await;
            client.rest().await;
        });
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    runtime.block_on(async {
        world.login(&Connect::python()).await.nothing_else().await;
    });
}

#[test]
fn no_payload_makes_a_decoder_panic() {
    let seeds = [
        r#"{"id":"123","params":{"version":"1.0.1","module":"MCU"}}"#,
        r#"{"id":1.5e3,"params":{"step":"-50","desc":"\u8def\u0000","module":null}}"#,
        r#"{"id":[{"a":"b"}],"params":{"step":50,"desc":{"x":[1,2]}}}"#,
        r#"{"id":"1","params":{"fileToken":"default","fileInfo":{"streamId":7,"fileId":1,},"fileBlock":{"size":"256","offset":0}}}"#,
    ];
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let mut understood = 0;
    for round in 0..60_000 {
        let mut payload = seeds[round % seeds.len()].as_bytes().to_vec();
        dice.mutate(&mut payload);
        for decode in [inform::decode, progress::decode, firmware_get::decode, firmware_get::decode_request] {
            understood += usize::from(decode(&payload).is_ok());
        }
        understood += usize::from(file_download::decode(&payload).is_ok());
    }
    assert!(understood > 1_000, "{understood}");
}

/// The longest payloads, of what costs a parser most: depth, long numbers, escapes, keys, commas too many.
#[test]
fn the_longest_payloads_leave_little_behind() {
    let forms = [
        "@",
        r#"{"id":@,"params":{"version":"1.0.0"}}"#,
        r#"{"params":{"version":@,"step":@}}"#,
        r#"{"params":{"version":"1.0.0","step":1,"module":@}}"#,
        r#"{"params":{"version":"1.0.0","step":1,"desc":@}}"#,
        r#"{"params":{"version":"1.0.0","step":1,"x":@}}"#,
        r#"{"params":{"fileToken":@,"fileInfo":{"streamId":1,"fileId":1,},"fileBlock":{"size":1,"offset":0}}}"#,
        r#"{"params":{"fileInfo":{"streamId":@,"fileId":1,},"fileBlock":{"size":1,"offset":0}}}"#,
    ];
    // What comes before, what is repeated, what comes after.
    let fillers = [
        ("", "[", ""),
        ("", r#"{"params":"#, ""),
        ("1", "9", ""),
        ("0.", "0", "1e9999"),
        ("\"", "\\u0000", "\""),
        ("\"", "x", "\""),
        ("[", "1,", "1]"),
        ("{", r#""a":1,"#, r#""a":1}"#),
        ("[", " ,}", "]"),
        ("\"", "路", "\""),
    ];
    for form in forms {
        for (before, piece, after) in fillers {
            let room = MQTT_PAYLOAD_BYTES_MAX - form.len() - before.len() - after.len();
            let filler =
                format!("{before}{}{after}", piece.repeat(room / piece.len() / form.matches('@').count()));
            let payload = form.replace('@', &filler);
            for decode in
                [inform::decode, progress::decode, firmware_get::decode, firmware_get::decode_request]
            {
                let kept = match decode(payload.as_bytes()) {
                    Err(_) => 0,
                    Ok(DeviceEvent::Report { module, version }) => module.len().max(version.len()),
                    Ok(
                        DeviceEvent::Progress { module, desc, .. }
                        | DeviceEvent::Failure { module, desc, .. },
                    ) => module.len().max(desc.len()),
                    Ok(DeviceEvent::Pull { module, asked }) => module.len().max(asked.id.len()),
                    Ok(other) => panic!("{other:?}"),
                };
                assert!(kept <= 4 * PROGRESS_DESC_CHARS_MAX, "{form} with {piece} leaves {kept} bytes");
            }
            if let Ok(request) = file_download::decode(payload.as_bytes()) {
                let kept = format!("{request:?}").len();
                assert!(kept < 2_048, "{form} with {piece} leaves {kept} bytes");
            }
        }
    }
}
