//! Devices that register themselves: the HTTPS form, and the rules behind every form.

use crate::server::{Answer, ROOT, START, TestServer};
use crate::shop::text;
use http::Request;
use serde_json::json;
use updraft_core::device::DeviceStatus;
use updraft_core::registration::{Mode, Way};
use updraft_server::api::product::create_product::SEAL_PURPOSE;
use updraft_server::api::sign::hmac_sha256;
use updraft_server::device::link::DeviceEvent;
use updraft_server::device::login::Method;
use updraft_server::device::register::{Asked, Given, Refusal, register};
use updraft_server::setup::ROOT_ACCOUNT;
use updraft_store::{DeviceLogin, Lane, Location, NewProduct};

/// The product that the captures are of.
const KEY: &str = "a1TestPk001";
const SECRET: &str = "productsecret000";
/// The signature that Link SDK for Python made for dev01.
const CAPTURED: (&str, &str) =
    ("oPSxr2PgOUXWkTj", "49effa11ccefde2957e594c961e926617a82281b1dd7d660a0deb78da620406f");

/// The product of the captures, with this switch.
async fn product(server: &TestServer, mode: Mode) {
    let sealed = server.app.master.seal(SEAL_PURPOSE, SECRET).unwrap();
    let made = server.app.store.write(Lane::Interactive, move |tx| {
        let account = tx.account_find(ROOT_ACCOUNT)?.unwrap_or_default();
        let new = NewProduct {
            instance: tx.instance_public(account)?,
            product_key: KEY.to_owned(),
            name: "captured".to_owned(),
            secret_sealed: sealed.clone(),
            node_type: 0,
            data_format: 1,
            net_type: "WIFI".to_owned(),
            commodity_code: "iothub".to_owned(),
            description: None,
            protocol_type: None,
            category_key: None,
            validate_type: 1,
            certified: false,
        };
        let product = tx.product_insert(&new, START)?.unwrap_or_default();
        tx.product_registration_set(product, mode)
    });
    made.await.unwrap();
}

async fn device(server: &TestServer, name: &str) -> String {
    let made = server.ok("RegisterDevice", &[("ProductKey", KEY), ("DeviceName", name)]).await;
    assert_eq!(text(&made, "/Data/DeviceName"), name);
    text(&made, "/Data/DeviceSecret")
}

async fn post(server: &TestServer, form: &str) -> Answer {
    let request =
        Request::post("/auth/register/device").header("content-type", "application/x-www-form-urlencoded");
    server.send_with(request, form.to_owned()).await
}

fn sign(name: &str, random: &str) -> String {
    hex::encode(hmac_sha256(
        SECRET.as_bytes(),
        format!("deviceName{name}productKey{KEY}random{random}").as_bytes(),
    ))
}

fn form(name: &str) -> String {
    let sign = sign(name, "R");
    format!("productKey={KEY}&deviceName={name}&random=R&sign={sign}&signMethod=hmacSHA256")
}

/// The secret that a registration gives.
async fn secret(server: &TestServer, name: &str) -> String {
    let answer = post(server, &form(name)).await;
    let json = answer.json();
    assert_eq!((answer.status, &json["code"]), (200, &json!(200)), "{json}");
    text(&json, "/data/deviceSecret")
}

async fn code(server: &TestServer, form: &str) -> i64 {
    let answer = post(server, form).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.len() <= 256, "{}", answer.body);
    let json = answer.json();
    assert!(!text(&json, "/message").is_empty());
    json["code"].as_i64().unwrap()
}

async fn stored(server: &TestServer, name: &str) -> String {
    let detail = server.ok("QueryDeviceDetail", &[("ProductKey", KEY), ("DeviceName", name)]).await;
    text(&detail, "/Data/DeviceSecret")
}

async fn iot_id(server: &TestServer, name: &str) -> String {
    let info = server.ok("QueryDeviceDetail", &[("ProductKey", KEY), ("DeviceName", name)]).await;
    text(&info, "/Data/IotId")
}

async fn online(server: &TestServer, name: &str, session: i64) {
    let event = DeviceEvent::Online { session, ip: "10.0.0.1".to_owned() };
    server.device(&iot_id(server, name).await, event).await;
}

async fn login(server: &TestServer, name: &str) -> DeviceLogin {
    let name = name.to_owned();
    server.app.store.read(move |tx| tx.device_login(KEY, &name)).await.unwrap().expect("there is the device")
}

fn unlisted(name: &str) -> Asked {
    Asked {
        product_key: KEY.to_owned(),
        device_name: name.to_owned(),
        way: Way::Unlisted,
        instance_id: None,
        method: Method::HmacSha256,
        random: "R".to_owned(),
        sign: sign(name, "R").into_bytes(),
    }
}

async fn token(server: &TestServer, asked: Asked) -> Result<(String, String), Refusal> {
    register(&server.app, asked).await.map(|given| match given {
        Given::Token { client_id, token } => (client_id, token),
        Given::Secret(_) => panic!("a secret was given"),
    })
}

#[tokio::test]
async fn the_captured_signature_is_answered_as_the_page_shows() {
    let server = TestServer::new().await;
    product(&server, Mode::Preregistered).await;
    let burned = device(&server, "dev01").await;
    let (random, sign) = CAPTURED;
    let form = format!("productKey={KEY}&deviceName=dev01&random={random}&sign={sign}&signMethod=hmacsha256");
    let answer = post(&server, &form).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body,
        format!(
            r#"{{"code":200,"data":{{"productKey":"{KEY}","deviceName":"dev01","deviceSecret":"{burned}"}},"message":"success"}}"#
        ),
        "the first one gets the secret that RegisterDevice answered"
    );
    assert_eq!(answer.header("content-type"), "application/json;charset=utf-8");
    // The same random again, in capitals, in another order: fine, and the last secret wins.
    let again = form.replace(sign, &sign.to_uppercase()).replace("hmacsha256", "HmacSHA256");
    let (first, rest) = again.split_once('&').unwrap();
    let last = text(&post(&server, &format!("{rest}&{first}")).await.json(), "/data/deviceSecret");
    assert_ne!(last, burned);
    assert_eq!(stored(&server, "dev01").await, last);
    // Without a method it is hmacmd5, which this is not.
    assert_eq!(code(&server, &form.replace("&signMethod=hmacsha256", "")).await, 6600);
}

#[tokio::test]
async fn every_refusal_has_its_code() {
    let server = TestServer::new().await;
    product(&server, Mode::Off).await;
    device(&server, "dev01").await;
    let good = form("dev01");
    assert_eq!(code(&server, &good).await, 6288, "off is the default");
    let set = |mode: &'static str| [("ProductKey", KEY), ("DynamicRegister", mode)];
    server.ok("SetProductDynamicRegister", &set("PREREGISTERED")).await;
    let shown = server.ok("QueryProductDynamicRegister", &[("ProductKey", KEY)]).await;
    assert_eq!(text(&shown, "/Data/DynamicRegister"), "PREREGISTERED");
    for (bad, expected) in [
        ("nonsense", 460),
        (&good.replace("deviceName=dev01", "deviceName=d"), 460),
        (&good.replace("random=R&", ""), 460),
        (&good.replace("hmacSHA256", "md5"), 6292),
        (&good.replace(KEY, "a1Unknown00"), 6250),
        (&good.replace(KEY, "a1%2FUnknown"), 6250),
        (&good.replace("sign=", "sign=0"), 6600),
        (&form("dev02"), 6100),
    ] {
        assert_eq!(code(&server, bad).await, expected, "{bad}");
    }
    let large = format!("{good}&x={}", "x".repeat(4_096));
    assert_eq!(code(&server, &large).await, 460);
    let get = server.send(Request::get("/auth/register/device")).await;
    assert_eq!((get.status, get.header("allow"), &get.json()["code"]), (405, "POST", &json!(460)));
    server.ok("DisableThing", &[("ProductKey", KEY), ("DeviceName", "dev01")]).await;
    assert_eq!(code(&server, &good).await, 6204);
    server.ok("DeleteDevice", &[("ProductKey", KEY), ("DeviceName", "dev01")]).await;
    assert_eq!(code(&server, &good).await, 6100);
    server.ok("DeleteProduct", &[("ProductKey", KEY)]).await;
    assert_eq!(code(&server, &good).await, 6250);
}

#[tokio::test]
async fn an_active_device_registers_again_only_after_a_reset() {
    let server = TestServer::new().await;
    product(&server, Mode::Preregistered).await;
    device(&server, "dev01").await;
    let first = secret(&server, "dev01").await;
    let second = secret(&server, "dev01").await;
    assert_ne!(first, second);
    online(&server, "dev01", 1).await;
    assert_eq!(code(&server, &form("dev01")).await, 6289);
    assert_eq!(stored(&server, "dev01").await, second);
    let named = [("ProductKey", KEY), ("DeviceName", "dev01")];
    server.kicked.lock().unwrap().clear();
    server.ok("ResetThing", &named).await;
    assert!(server.kicked.lock().unwrap().is_empty(), "its secret is good until it registers anew");
    assert_eq!(stored(&server, "dev01").await, second);
    let third = secret(&server, "dev01").await;
    assert_ne!(second, third);
    assert_eq!(server.kicked.lock().unwrap().len(), 1, "whoever had the old secret is sent away");
    online(&server, "dev01", 2).await;
    assert_eq!(code(&server, &form("dev01")).await, 6289);
    // One whose secret was burned is not to be had with the product's.
    let burned = device(&server, "dev02").await;
    online(&server, "dev02", 3).await;
    assert_eq!(code(&server, &form("dev02")).await, 6289);
    assert_eq!(stored(&server, "dev02").await, burned);
}

#[tokio::test]
async fn a_device_that_nobody_knows_gets_a_token() {
    let server = TestServer::with(Location::Inline, |config| {
        (config.quota_scale, config.devices_per_product_max) = (0.0, 2);
    })
    .await;
    product(&server, Mode::Preregistered).await;
    let refused = token(&server, unlisted("new-1")).await.unwrap_err();
    assert!(refused.to_string().contains("SetProductDynamicRegister"), "{refused}");
    server.ok("SetProductDynamicRegister", &[("ProductKey", KEY), ("DynamicRegister", "ANY")]).await;
    let (client_id, first) = token(&server, unlisted("new-1")).await.unwrap();
    assert_eq!((client_id.len(), first.len()), (20, 32));
    let detail = server.ok("QueryDeviceDetail", &[("ProductKey", KEY), ("DeviceName", "new-1")]).await;
    assert_eq!(text(&detail, "/Data/Status"), DeviceStatus::Unactive.name());
    let DeviceLogin::Known { token: stored, .. } = login(&server, "new-1").await else { panic!("deleted") };
    let stored = stored.unwrap();
    assert_eq!(stored.client_id, client_id);
    assert!(
        !stored.hash.windows(16).any(|window| window == &first.as_bytes()[..16]),
        "only its hash is stored"
    );
    // Until it is active the last one wins.
    let (_, second) = token(&server, unlisted("new-1")).await.unwrap();
    let DeviceLogin::Known { token: stored, .. } = login(&server, "new-1").await else { panic!("deleted") };
    assert_ne!(first, second);
    assert_eq!(stored.unwrap().hash, updraft_server::device::register::token_hash(second.as_bytes()));
    online(&server, "new-1", 1).await;
    assert!(token(&server, unlisted("new-1")).await.unwrap_err().to_string().contains("ResetThing"));
    // A reset ends the token, and the connection with it.
    let named = [("ProductKey", KEY), ("DeviceName", "new-1")];
    let before = server.kicked.lock().unwrap().len();
    server.ok("ResetThing", &named).await;
    assert_eq!(server.kicked.lock().unwrap().len(), before + 1);
    let DeviceLogin::Known { token: stored, .. } = login(&server, "new-1").await else { panic!("deleted") };
    assert_eq!(stored, None);
    token(&server, unlisted("new-1")).await.unwrap();
    // The product's room counts, and names have their rule.
    token(&server, unlisted("new-2")).await.unwrap();
    assert_eq!(token(&server, unlisted("new-3")).await, Err(Refusal::Full));
    assert_eq!(token(&server, unlisted("n/1")).await, Err(Refusal::Name));
    // A deleted one's name is free: it may come back as a new device.
    server.ok("DeleteDevice", &named).await;
    token(&server, unlisted("new-1")).await.unwrap();
}

#[tokio::test]
async fn only_another_instance_of_this_server_is_a_wrong_one() {
    let server = TestServer::new().await;
    product(&server, Mode::Any).await;
    let made = server.app.store.write(Lane::Interactive, move |tx| {
        let account = tx.account_find(ROOT_ACCOUNT)?.unwrap_or_default();
        tx.instance_insert(account, "iot-ours", "ours", START)
    });
    made.await.unwrap();
    let of = |id: &str| Asked { instance_id: Some(id.to_owned()), ..unlisted("new-1") };
    assert_eq!(token(&server, of("iot-ours")).await, Err(Refusal::Instance));
    // What firmware had on the platform means nothing here.
    token(&server, of("iot-abc")).await.unwrap();
    token(&server, of("iot\0")).await.unwrap();
    let wrong = Asked { sign: b"00".to_vec(), ..of("iot-ours") };
    assert_eq!(
        token(&server, wrong).await,
        Err(Refusal::Signature),
        "who does not know the secret learns nothing"
    );
}

#[tokio::test]
async fn an_address_that_guesses_is_refused_unheard() {
    let server = TestServer::with(Location::Inline, |config| {
        (config.quota_scale, config.api_failures_per_minute) = (0.0, 2);
    })
    .await;
    product(&server, Mode::Preregistered).await;
    device(&server, "dev01").await;
    for _ in 0..2 {
        assert_eq!(code(&server, &form("dev01").replace("sign=", "sign=0")).await, 6600);
    }
    let refused = post(&server, &form("dev01")).await;
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!(429)));
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds));
}

#[tokio::test]
async fn a_registration_leaves_no_line_in_the_audit_log_and_the_switch_does() {
    let server = TestServer::new().await;
    product(&server, Mode::Any).await;
    token(&server, unlisted("new-1")).await.unwrap();
    server
        .call_as(
            ROOT,
            "JSON",
            "SetProductDynamicRegister",
            &[("ProductKey", KEY), ("DynamicRegister", "OFF")],
        )
        .await;
    let lines =
        server.app.store.read(|tx| tx.audit_list(&updraft_store::AuditFilter::default(), i64::MAX, 100));
    let actions: Vec<String> = lines.await.unwrap().into_iter().map(|(_, line)| line.action).collect();
    assert_eq!(actions, ["SetProductDynamicRegister"]);
}
