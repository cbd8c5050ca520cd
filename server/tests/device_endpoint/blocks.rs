//! Downloads by MQTT.

use super::world::*;
use std::time::Duration;
use tokio::net::TcpStream;
use updraft_server::device::connection::Limits;

const REPLY: &str = "/sys/a1TestPk001/dev01/thing/file/download_reply";

fn question(stream: i64, offset: i64, size: i64) -> String {
    format!(
        r#"{{"id":"1","params":{{"fileInfo":{{"streamId":{stream},"fileId":1,}},"fileBlock":{{"size":{size},"offset":{offset}}}}}}}"#
    )
}

/// The answer's JSON text and the number of bytes behind it.
async fn answer(device: &mut Client<TcpStream>) -> (String, usize) {
    let (topic, id, payload) = device.message_of_bytes().await;
    assert_eq!((topic.as_str(), id), (REPLY, None));
    let length = usize::from(u16::from_be_bytes([payload[0], payload[1]]));
    let text = String::from_utf8(payload[2..2 + length].to_vec()).unwrap();
    (text, payload.len() - 2 - length)
}

#[tokio::test]
async fn blocks_come_one_by_one_in_the_order_asked_for() {
    let world = World::new().await;
    let mut device = world.login(&Connect::python()).await;
    // Eight large ones at once: more than the system takes before the device reads.
    for n in 0..7 {
        device.send(&publish(DOWNLOAD, None, &question(7, n * 131_072, 131_072))).await;
    }
    device.send(&publish(DOWNLOAD, Some(9), &question(7, FILE_BYTES, 1))).await;
    device.send(&publish(DOWNLOAD, None, &question(8, 0, 1))).await;
    let mut acknowledged = false;
    let mut told = Vec::new();
    while told.len() < 9 {
        let (first, body) = device.receive().await;
        if first == 0x40 {
            acknowledged = true;
            continue;
        }
        let skip = 2 + REPLY.len();
        let length = usize::from(u16::from_be_bytes([body[skip], body[skip + 1]]));
        let text = String::from_utf8(body[skip + 2..skip + 2 + length].to_vec()).unwrap();
        told.push((text, body.len() - skip - 2 - length));
    }
    assert!(acknowledged);
    for (n, (text, bytes)) in told[..7].iter().enumerate() {
        let offset = n * 131_072;
        assert_eq!(
            *text,
            format!(
                r#"{{"code":200,"data":{{"bOffset":{offset},"fileLength":1000000,"bSize":131072}},"id":"1","message":"success"}}"#
            )
        );
        assert_eq!(*bytes, 131_072 + 2);
    }
    assert!(told[7].0.starts_with(r#"{"code":400,"data":{},"id":"1","#) && told[7].1 == 0, "{:?}", told[7]);
    assert!(told[8].0.starts_with(r#"{"code":404,"data":{},"#) && told[8].1 == 0, "{:?}", told[8]);
    device.nothing_else().await;
}

#[tokio::test]
async fn a_device_that_does_not_read_is_not_read_for() {
    let world = World::with(Limits { blocks_per_second: 0, ..Limits::default() }, None).await;
    let mut device = world.login(&Connect::python()).await;
    // Each round more than one device may ask for at a time; the rest of what it asks for is dropped.
    for _ in 0..40 {
        let questions: Vec<u8> =
            (0..20).flat_map(|_| publish(DOWNLOAD, None, &question(7, 0, 131_072))).collect();
        device.send(&questions).await;
    }
    device.send(&PINGREQ).await;
    let mut blocks = 0;
    loop {
        let (first, _) = device.receive().await;
        if first == PINGRESP.0 {
            break;
        }
        blocks += 1;
    }
    let read = world.memory.blocks.lock().len();
    assert!((16..800).contains(&read), "{read} blocks were read of 800 asked for");
    assert!(blocks <= read, "and none without being asked for");
}

#[tokio::test]
async fn more_blocks_than_allowed_wait_and_none_is_lost() {
    let world = World::with(Limits { blocks_per_second: 10, ..Limits::default() }, None).await;
    let mut device = world.login(&Connect::python()).await;
    let questions: Vec<u8> = (0..16).flat_map(|_| publish(DOWNLOAD, None, &question(7, 0, 10))).collect();
    let start = std::time::Instant::now();
    device.send(&questions).await;
    for _ in 0..16 {
        let (text, bytes) = answer(&mut device).await;
        assert!(text.contains("\"bSize\":10") && bytes == 12, "{text}");
    }
    assert!(start.elapsed().as_millis() >= 500, "six of them had to wait a tenth of a second each");
}

#[tokio::test]
async fn who_unsubscribed_from_blocks_gets_none() {
    let world = World::new().await;
    let mut device = world.login(&Connect::python()).await;
    device.send(&unsubscribe(5, REPLY)).await;
    assert_eq!(device.receive().await.0, 0xb0);
    device.send(&publish(DOWNLOAD, None, &question(7, 0, 10))).await;
    device.nothing_else().await;
    device.send(&subscribe(6, &[(REPLY, 0)])).await;
    assert_eq!(device.receive().await.0, 0x90);
    device.send(&publish(DOWNLOAD, None, &question(7, 0, 10))).await;
    assert!(answer(&mut device).await.0.contains("success"));
}

#[tokio::test]
async fn blocks_that_nobody_has_taken_yet_leave_no_room_for_others() {
    let limits = Limits { block_bytes: 131_072, room_within: Duration::from_secs(1), ..Limits::default() };
    let world = World::with(limits, None).await;
    let stuck = world.memory.stuck.write().await;
    let mut first = world.login(&Connect::python()).await;
    first.send(&publish(DOWNLOAD, None, &question(7, 0, 131_072))).await;
    world.memory.wait_for_blocks(1).await;
    let mut second = world.login(&Connect::by_hand()).await;
    let ask = publish("/sys/pk/device/thing/file/download", None, &question(7, 0, 1));
    let reply = "/sys/pk/device/thing/file/download_reply";
    second.send(&subscribe(1, &[(reply, 0)])).await;
    assert_eq!(second.receive().await.0, 0x90);
    let code = |(topic, _, payload): (String, _, Vec<u8>)| {
        assert_eq!(topic, reply);
        String::from_utf8(payload[2..14].to_vec()).unwrap()
    };
    // All that it asked for are refused after one wait.
    let began = std::time::Instant::now();
    second.send(&ask.repeat(3)).await;
    for _ in 0..3 {
        assert_eq!(code(second.message_of_bytes().await), "{\"code\":503,");
    }
    assert!(began.elapsed() < 2 * limits.room_within, "{:?}", began.elapsed());
    assert_eq!(world.memory.blocks.lock().len(), 1, "nothing is read without room");
    drop(stuck);
    assert!(answer(&mut first).await.0.contains("success"));
    first.nothing_else().await;
    second.send(&ask).await;
    assert_eq!(code(second.message_of_bytes().await), "{\"code\":404,", "there is room again");
}
