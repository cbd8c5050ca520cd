//! Questions as real SDKs send them, and the answers to them.

use super::envelope::{Told, reply};
use super::*;
use updraft_core::topo::{Change, Proof, Refused};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const GATEWAY: Owner<'static> = Owner { product_key: "a1GatewayP1", device_name: "gw01" };

fn name(device_name: &str) -> Name {
    Name { product_key: "a1SubPk0001".to_owned(), device_name: device_name.to_owned() }
}

fn ask(kind: Kind, payload: &str) -> Question {
    decode(kind, payload.as_bytes(), Batches::default()).unwrap()
}

fn refusal(kind: Kind, payload: &str) -> Refusal {
    ask(kind, payload).ask.unwrap_err()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn topics() {
    for kind in Kind::ALL {
        let topic = kind.reply_topic(GATEWAY);
        let asked = topic.strip_suffix("_reply").unwrap();
        assert_eq!(Kind::of(GATEWAY, asked), Some(kind));
        assert_eq!(Kind::of(GATEWAY, &topic), None);
        assert_eq!(Kind::of(Owner { device_name: "gw02", ..GATEWAY }, asked), None);
    }
    assert_eq!(
        Kind::BatchLogin.reply_topic(GATEWAY),
        "/ext/session/a1GatewayP1/gw01/combine/batch_login_reply"
    );
    assert_eq!(Kind::TopoAdd.reply_topic(GATEWAY), "/sys/a1GatewayP1/gw01/thing/topo/add_reply");
}

#[test]
fn the_questions_of_real_sdks_are_understood() {
    // alibabacloud-iot-device-sdk 1.2.8 for JavaScript.
    let asked = ask(
        Kind::TopoAdd,
        r#"{"id":"1","version":"1.0","params":[{"productKey":"a1SubPk0001","deviceName":"sub01","clientId":"a1SubPk0001&sub01","timestamp":1795521925267,"signMethod":"hmacsha1","sign":"61da14f00c0ccbdb43184852b71e913d0bba7a31"}],"method":"thing.topo.add"}"#,
    );
    let Ok(Ask::Server(Request::Add(claims))) = &asked.ask else { panic!("{asked:?}") };
    assert_eq!((asked.id.as_str(), &asked.names), (r#""1""#, &vec![name("sub01")]));
    assert_eq!(
        (claims[0].signed.proof(SECRET), claims[0].signed.proof("other")),
        (Proof::Good, Proof::Wrong)
    );

    let asked = ask(
        Kind::Login,
        r#"{"id":"2","version":"1.0","params":{"productKey":"a1SubPk0001","deviceName":"sub01","clientId":"a1SubPk0001&sub01","timestamp":1795521925270,"signMethod":"hmacsha1","sign":"a19c5ef95a964a8279287737cbdaa90bdb2da0b9"},"method":""}"#,
    );
    let Ok(Ask::Login(entrants)) = &asked.ask else { panic!("{asked:?}") };
    assert_eq!((entrants[0].claim.signed.proof(SECRET), entrants[0].auto_subscribe), (Proof::Good, false));

    // Link SDK for Python 1.2.13: one method for all, and the whole client id is signed.
    let asked = ask(
        Kind::BatchLogin,
        r#"{"id": "2", "version": "1.0", "params": {"signMethod": "hmacSha256", "deviceList": [{"productKey": "a1SubPk0001", "deviceName": "sub01", "clientId": "a1SubPk0001.sub01|lan=Python,_v=2.2.1,_ss=1|", "timestamp": "1795521325992", "cleanSession": "false", "sign": "070d9261f64636d2e3f2598ced50b86d48d233c97c0f221ee04af9931bcd7c34"}]}}"#,
    );
    let Ok(Ask::Login(entrants)) = &asked.ask else { panic!("{asked:?}") };
    assert_eq!(
        (entrants[0].claim.signed.proof("subsecret"), entrants[0].auto_subscribe),
        (Proof::Good, true)
    );

    let named = r#"[{"productKey": "a1SubPk0001", "deviceName": "sub01"}, {"productKey": "a1SubPk0001", "deviceName": "sub02"}]"#;
    let both = vec![name("sub01"), name("sub02")];
    for (kind, expected) in [
        (Kind::TopoDelete, Ask::Server(Request::Remove(both.clone()))),
        (Kind::Register, Ask::Server(Request::Register(both.clone()))),
        (Kind::Unregister, Ask::Server(Request::Unregister(both.clone()))),
        (Kind::BatchLogout, Ask::Logout),
    ] {
        let asked = ask(kind, &format!(r#"{{"id": 7, "params": {named}}}"#));
        assert_eq!((asked.id.as_str(), asked.names, asked.ask), ("7", both.clone(), Ok(expected)));
    }
    let asked = ask(Kind::Logout, r#"{"id":"3","params":{"productKey":"a1SubPk0001","deviceName":"sub01"}}"#);
    assert_eq!((asked.names, asked.ask), (vec![name("sub01")], Ok(Ask::Logout)));
    for params in ["{}", "[]", "null", r#""""#] {
        let asked = ask(Kind::TopoGet, &format!(r#"{{"id":"4","params":{params}}}"#));
        assert_eq!(asked.ask, Ok(Ask::Server(Request::List)));
    }
    assert_eq!(ask(Kind::TopoGet, "{}\0").ask, Ok(Ask::Server(Request::List)));
}

#[test]
fn registrations_are_signed_with_the_products_secret() {
    let asked = ask(
        Kind::ProductRegister,
        r#"{"id":"5","params":{"proxieds":[{"productKey":"pk","deviceName":"dn","random":"r","signMethod":"hmacSha256","sign":"F0A9C6C1"}]}}"#,
    );
    let Ok(Ask::Server(Request::ProductRegister(claims))) = asked.ask else { panic!() };
    assert_eq!(claims[0].signed.content, "deviceNamednproductKeypkrandomr");
    assert_eq!(claims[0].signed.proof("secret"), Proof::Wrong);
    let no_random = r#"{"params":{"proxieds":[{"productKey":"pk","deviceName":"dn","sign":"00"}]}}"#;
    assert_eq!(refusal(Kind::ProductRegister, no_random), Refusal::Parameter);
}

#[test]
fn what_is_signed_is_what_is_sent() {
    let claim = |entry: &str| {
        let asked = ask(Kind::TopoAdd, &format!(r#"{{"params":[{entry}]}}"#));
        let Ok(Ask::Server(Request::Add(mut claims))) = asked.ask else { panic!() };
        claims.remove(0).signed
    };
    let bare = claim(r#"{"productKey":"pk","deviceName":"dn","sign":"00"}"#);
    assert_eq!(bare.content, "deviceNamednproductKeypk");
    let whole = claim(
        r#"{"productKey":"pk","deviceName":"dn","clientId":"c|_ss=1|","timestamp":"12","signmethod":"hmacSha1","cleanSession":true,"sign":"00"}"#,
    );
    assert_eq!(whole.content, "clientIdc|_ss=1|deviceNamednproductKeypktimestamp12");
}

#[test]
fn what_a_login_wishes() {
    for (extra, auto, keeps) in [
        (r#""clientId":"c""#, false, false),
        (r#""clientId":"c|_ss=1|""#, true, false),
        (r#""clientId":"c|_ss=0|""#, false, false),
        (r#""cleanSession":"false""#, false, true),
        (r#""cleanSession":false"#, false, true),
        (r#""cleanSession":"true""#, false, false),
        (r#""cleanSession":true"#, false, false),
        (r#""cleanSession":null"#, false, false),
    ] {
        let login = format!(r#"{{"params":{{"productKey":"pk","deviceName":"dn","sign":"00",{extra}}}}}"#);
        let Ok(Ask::Login(entrants)) = ask(Kind::Login, &login).ask else { panic!("{login}") };
        assert_eq!((entrants[0].auto_subscribe, entrants[0].keeps_session), (auto, keeps), "{extra}");
    }
}

#[test]
fn nonsense_is_refused_with_its_id_and_without_one_ignored() {
    for payload in ["", "[1", "1", r#"{"id":{}}"#, r#"{"id":"\ud800"}"#, r#"{"id":1"#] {
        for kind in Kind::ALL {
            assert!(decode(kind, payload.as_bytes(), Batches::default()).is_err(), "{payload}");
        }
    }
    for params in ["{}", "[]", "null", "1", "[{}]", "[1]", r#"{"deviceList":[]}"#, r#"{"proxieds":[]}"#] {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::TopoGet) {
            let asked = ask(kind, &format!(r#"{{"id":9,"params":{params}}}"#));
            assert_eq!((asked.id.as_str(), asked.ask), ("9", Err(Refusal::Parameter)), "{kind:?} {params}");
        }
    }
    let unsigned = r#"{"params":{"productKey":"pk","deviceName":"dn"}}"#;
    assert_eq!(refusal(Kind::Login, unsigned), Refusal::Parameter);
    assert_eq!(refusal(Kind::TopoAdd, unsigned), Refusal::Parameter);
    let empty = r#"{"params":{"productKey":"","deviceName":"dn"}}"#;
    assert_eq!(refusal(Kind::Logout, empty), Refusal::Parameter);
}

#[test]
fn a_question_names_so_many_devices() {
    let list = |count: usize| {
        let one = r#"{"productKey":"pk","deviceName":"dn","random":"r","sign":"00"}"#;
        format!("[{}]", vec![one; count].join(","))
    };
    for (kind, most, why) in [
        (Kind::TopoAdd, 30, Refusal::Parameter),
        (Kind::TopoDelete, 30, Refusal::Parameter),
        (Kind::Register, 30, Refusal::Parameter),
        (Kind::Unregister, 30, Refusal::Parameter),
        (Kind::ProductRegister, 30, Refusal::Parameter),
        (Kind::BatchLogin, 50, Refusal::TooManyLogins),
        (Kind::BatchLogout, 50, Refusal::TooManyLogins),
    ] {
        let payload = |count| match kind {
            Kind::ProductRegister => format!(r#"{{"params":{{"proxieds":{}}}}}"#, list(count)),
            Kind::BatchLogin => format!(r#"{{"params":{{"deviceList":{}}}}}"#, list(count)),
            _ => format!(r#"{{"params":{}}}"#, list(count)),
        };
        assert!(ask(kind, &payload(most)).ask.is_ok(), "{kind:?}");
        assert_eq!(refusal(kind, &payload(most + 1)), why, "{kind:?}");
    }
    assert_eq!(refusal(Kind::Login, &format!(r#"{{"params":{}}}"#, list(2))), Refusal::Parameter);
}

#[test]
fn answers() {
    let question = |kind| Question {
        kind,
        id: r#""1""#.to_owned(),
        names: vec![name("sub01"), name("sub02")],
        ask: Ok(Ask::Logout),
    };
    let done = [name("sub01"), name("sub02")];
    let refused = Err(Refused { why: Refusal::Signature, at: vec![1] });
    for (kind, outcome, expected) in [
        (
            Kind::TopoAdd,
            Ok(Told::Names(&done[..1])),
            r#"{"id":"1","code":200,"data":[{"deviceName":"sub01","productKey":"a1SubPk0001"}],"message":"success","method":"thing.topo.add","version":"1.0"}"#,
        ),
        (
            Kind::TopoAdd,
            refused,
            r#"{"id":"1","code":401,"data":[{"deviceName":"sub02","productKey":"a1SubPk0001"}],"message":"request auth error","method":"thing.topo.add","version":"1.0"}"#,
        ),
        (
            Kind::TopoGet,
            Ok(Told::Names(&[])),
            r#"{"id":"1","code":200,"data":[],"message":"success","method":"thing.topo.get","version":"1.0"}"#,
        ),
        (
            Kind::Login,
            Ok(Told::Names(&done[..1])),
            r#"{"id":"1","code":200,"data":{"deviceName":"sub01","productKey":"a1SubPk0001"},"message":"success"}"#,
        ),
        (
            Kind::Login,
            Err(Refusal::Throttled.into()),
            r#"{"id":"1","code":429,"data":{},"message":"too many requests"}"#,
        ),
        (
            Kind::BatchLogout,
            Ok(Told::Names(&done)),
            r#"{"id":"1","code":200,"data":[{"deviceName":"sub01","productKey":"a1SubPk0001"},{"deviceName":"sub02","productKey":"a1SubPk0001"}],"message":"success"}"#,
        ),
    ] {
        assert_eq!(text(reply(&question(kind), &outcome)), expected);
    }
    let secret = Secret { name: name("sub01"), iot_id: "iot".to_owned(), secret: "s".to_owned() };
    let told = Ok(Told::Secrets(std::slice::from_ref(&secret)));
    assert_eq!(
        text(reply(&Question { id: "7".to_owned(), ..question(Kind::Register) }, &told)),
        r#"{"id":7,"code":200,"data":[{"iotId":"iot","deviceName":"sub01","productKey":"a1SubPk0001","deviceSecret":"s"}],"message":"success","method":"thing.sub.register","version":"1.0"}"#
    );
    assert!(!format!("{secret:?}").contains("\"s\""));
}

#[test]
fn what_a_gateway_is_told_unasked() {
    let sub = name("sub01");
    assert_eq!(trouble::topic(GATEWAY), "/ext/error/a1GatewayP1/gw01");
    assert_eq!(
        text(trouble::payload(r#""3""#, Refusal::NoSession, sub.owner())),
        r#"{"id":"3","code":520,"data":{"deviceName":"sub01","productKey":"a1SubPk0001"},"message":"device session error"}"#
    );
    assert_eq!(topo::change_topic(GATEWAY), "/sys/a1GatewayP1/gw01/thing/topo/change");
    assert_eq!(
        text(topo::change(123, Change::Disable, std::slice::from_ref(&sub))),
        r#"{"id":"123","version":"1.0","params":{"status":8,"subList":[{"deviceName":"sub01","productKey":"a1SubPk0001"}]},"method":"thing.topo.change"}"#
    );
    assert_eq!(topo::notify_topic(GATEWAY), "/sys/a1GatewayP1/gw01/thing/topo/add/notify");
    assert_eq!(
        text(topo::notify(9, &[sub])),
        r#"{"id":"9","version":"1.0","params":[{"deviceName":"sub01","productKey":"a1SubPk0001"}],"method":"thing.topo.add.notify"}"#
    );
}

#[test]
fn who_speaks_on_a_topic() {
    let speaker = |topic| trouble::speaker(topic).map(|owner| (owner.product_key, owner.device_name));
    let sub = Some(("pk", "dn"));
    for (topic, expected) in [
        ("/ota/device/inform/pk/dn", sub),
        ("/sys/pk/dn/thing/event/property/post", sub),
        ("/sys/pk/dn", None),
        ("/ota/device/inform/pk/dn/more", None),
        ("/ota/device/inform/pk/", None),
        ("/ota/device//pk/dn", None),
        ("/pk/dn/user/get", None),
        ("", None),
    ] {
        assert_eq!(speaker(topic), expected, "{topic}");
    }
    for (payload, id) in [
        (&br#"{"id":1,"params":{}}"#[..], Some("1")),
        (br#"{"id":"a"}"#, Some(r#""a""#)),
        (b"{}", None),
        (b"\xff", None),
    ] {
        assert_eq!(trouble::id_of(payload).as_deref(), id);
    }
}
