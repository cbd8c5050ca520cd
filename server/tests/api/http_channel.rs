//! Devices that speak by HTTP: a token, then messages.

use crate::server::{Answer, HOST, START, TestServer};
use crate::shop::{IMAGE, IMAGE_MD5, Shop, text};
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use updraft_server::api::sign::hmac_sha1;
use updraft_server::device::link::DeviceEvent;
use updraft_store::Location;

/// A device with what it needs to speak.
struct Speaker<'a> {
    server: &'a TestServer,
    key: String,
    name: &'static str,
    secret: String,
    iot_id: String,
}

impl<'a> Speaker<'a> {
    async fn new(shop: &Shop<'a>, name: &'static str) -> Self {
        let params = [("ProductKey", shop.product_key.as_str()), ("DeviceName", name)];
        let made = shop.server.ok("RegisterDevice", &params).await;
        let (secret, iot_id) = (text(&made, "/Data/DeviceSecret"), text(&made, "/Data/IotId"));
        Self { server: shop.server, key: shop.product_key.clone(), name, secret, iot_id }
    }

    /// What the device posts for a token, as the page shows it.
    fn body(&self, timestamp: i64) -> String {
        let content = format!("clientIdcdeviceName{}productKey{}timestamp{timestamp}", self.name, self.key);
        let sign = hex::encode_upper(hmac_sha1(self.secret.as_bytes(), content.as_bytes()));
        format!(
            r#"{{"version":"default","clientId":"c","signmethod":"hmacsha1","sign":"{sign}","productKey":"{}","deviceName":"{}","timestamp":"{timestamp}"}}"#,
            self.key, self.name
        )
    }

    async fn auth(&self, body: &str) -> Answer {
        let request = Request::post("/auth").header("content-type", "application/json");
        self.server.send_with(request, body.to_owned()).await
    }

    async fn token(&self) -> String {
        let answer = self.auth(&self.body(self.server.app.now().0)).await.json();
        assert_eq!((&answer["code"], &answer["message"]), (&json!(0), &json!("success")));
        text(&answer, "/info/token")
    }

    fn topic(&self, around: (&str, &str)) -> String {
        format!("{}{}/{}{}", around.0, self.key, self.name, around.1)
    }

    async fn say(&self, token: &str, around: (&str, &str), body: &str) -> Answer {
        let request = Request::post(format!("/topic{}", self.topic(around))).header("password", token);
        self.server.send_with(request, body.to_owned()).await
    }

    /// What a message that must be taken is answered with.
    async fn ok(&self, token: &str, around: (&str, &str), body: &str) -> Value {
        let answer = self.say(token, around, body).await;
        let json = answer.json();
        assert_eq!(
            (answer.status, &json["code"], &json["message"]),
            (200, &json!(0), &json!("success")),
            "{json}"
        );
        assert_eq!(json["info"]["messageId"], self.server.app.now().0);
        json["info"]["data"].clone()
    }

    async fn code(&self, token: &str, around: (&str, &str), body: &str) -> i64 {
        self.say(token, around, body).await.json()["code"].as_i64().unwrap()
    }

    async fn detail(&self) -> Value {
        self.server.ok("QueryDeviceDetail", &[("IotId", &self.iot_id)]).await["Data"].clone()
    }
}

const INFORM: (&str, &str) = ("/ota/device/inform/", "");
const PROGRESS: (&str, &str) = ("/ota/device/progress/", "");
const REQUEST: (&str, &str) = ("/ota/device/request/", "");
const GET: (&str, &str) = ("/sys/", "/thing/ota/firmware/get");
const V1: &str = r#"{"id":"1","params":{"version":"1.0.0"}}"#;

async fn task(server: &TestServer, job: &str) -> String {
    let tasks = server.ok("ListOTATaskByJob", &[("JobId", job)]).await;
    text(&tasks, "/Data/SimpleOTATaskInfo/0/TaskStatus")
}

#[tokio::test]
async fn a_device_without_a_connection_upgrades() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let device = Speaker::new(&shop, "lamp_1").await;
    let token = device.token().await;
    let seen = device.detail().await;
    assert_eq!(text(&seen, "/Status"), "OFFLINE", "it is active, and not online");
    assert_eq!((text(&seen, "/IpAddress"), seen["GmtActive"].is_string()), ("192.0.2.1".to_owned(), true));
    device.ok(&token, INFORM, V1).await;
    assert_eq!(text(&device.detail().await, "/FirmwareVersion"), "1.0.0");
    assert_eq!(device.ok(&token, GET, r#"{"id":1,"params":{}}"#).await, json!({}), "nothing to do");
    let job = shop.batch(&shop.package().await, "lamp_1", &[]).await;
    server.engine().await;
    assert_eq!(task(&server, &job).await, "QUEUED");
    let told = device.ok(&token, GET, r#"{"id":1,"params":{}}"#).await;
    assert_eq!(task(&server, &job).await, "NOTIFIED");
    assert_eq!(
        (&told["version"], &told["md5"], &told["size"]),
        (&json!("2.0.0"), &json!(IMAGE_MD5), &json!(IMAGE.len()))
    );
    // The address is one that it can reach: under the name by which it asked.
    let path = text(&told, "/url").strip_prefix(&format!("http://{HOST}")).unwrap().to_owned();
    assert_eq!(server.send(Request::get(path)).await.body.as_bytes(), IMAGE);
    // The older way of asking has the same answer.
    server.later_ms(1_000);
    let again = device.ok(&token, REQUEST, r#"{"id":"0","params":{"version":"1.0.0"}}"#).await;
    assert_eq!(again["version"], "2.0.0");
    device.ok(&token, PROGRESS, r#"{"id":"1","params":{"step":"50","desc":""}}"#).await;
    assert_eq!(task(&server, &job).await, "IN_PROGRESS");
    device.ok(&token, INFORM, r#"{"id":"1","params":{"version":"2.0.0"}}"#).await;
    assert_eq!(task(&server, &job).await, "SUCCEEDED");
    assert_eq!(device.ok(&token, GET, "{}").await, json!({}));
    // Topics of which the server knows nothing are taken; a doubled slash is one.
    assert_eq!(device.ok(&token, ("/sys/", "/thing/event/property/post"), "anything").await, Value::Null);
    let doubled = Request::post(format!("/topic/{}", device.topic(INFORM))).header("password", &token);
    assert_eq!(server.send_with(doubled, V1).await.json()["code"], 0);
}

#[tokio::test]
async fn a_login_is_refused_with_the_pages_codes() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let device = Speaker::new(&shop, "lamp_1").await;
    let good = device.body(START.0);
    for (bad, code) in [
        (String::new(), 10_001),
        ("{}".to_owned(), 10_001),
        (good.replace("hmacsha1", "md5"), 10_001),
        (format!("{}{}", good, " ".repeat(4_096)), 10_001),
        (good.replace("lamp_1", "lamp_2"), 20_000),
        (good.replace("lamp_1", r"lamp_1\u0000"), 20_000),
        (good.replace(r#""clientId":"c""#, r#""clientId":"d""#), 20_000),
        (device.body(START.0 - 900_001), 20_000),
    ] {
        let answer = device.auth(&bad).await;
        assert_eq!((answer.status, &answer.json()["code"]), (200, &json!(code)), "{bad}");
    }
    assert_eq!(text(&device.detail().await, "/Status"), "UNACTIVE", "a refused login is none");
    let get = server.send(Request::get("/auth")).await;
    assert_eq!((get.status, get.header("allow"), &get.json()["code"]), (405, "POST", &json!(10_001)));
    server.ok("DisableThing", &[("IotId", &device.iot_id)]).await;
    assert_eq!(device.auth(&good).await.json()["code"], 20_000);
    server.ok("EnableThing", &[("IotId", &device.iot_id)]).await;
    device.token().await;
    server.ok("DeleteDevice", &[("IotId", &device.iot_id)]).await;
    assert_eq!(device.auth(&good).await.json()["code"], 20_000);
}

#[tokio::test]
async fn a_device_that_has_a_certificate_is_not_let_in_with_its_secret() {
    let server = TestServer::new().await;
    let mut shop = Shop::open(&server).await;
    let product = [("ProductName", "certified"), ("NodeType", "0"), ("AuthType", "x509")];
    shop.product_key = text(&server.ok("CreateProduct", &product).await, "/ProductKey");
    let device = Speaker::new(&shop, "lock_1").await;
    let refused = device.auth(&device.body(server.app.now().0)).await.json();
    assert_eq!(refused["code"], 20_000, "{refused}");
}

#[tokio::test]
async fn a_message_is_refused_with_the_pages_codes() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let (device, other) = (Speaker::new(&shop, "lamp_1").await, Speaker::new(&shop, "lamp_2").await);
    let token = device.token().await;
    assert_eq!(device.code("", INFORM, V1).await, 20_002);
    assert_eq!(device.code("made-up", INFORM, V1).await, 20_003);
    assert_eq!(device.code(&token.replace('-', "+"), INFORM, V1).await, 20_003);
    let none = Request::post(format!("/topic{}", device.topic(INFORM)));
    assert_eq!(server.send_with(none, V1).await.json()["code"], 20_002);
    assert_eq!(other.code(&token, INFORM, V1).await, 30_001, "it is another's topic");
    assert_eq!(device.code(&token, ("/sys/", "/thing/file/download"), "{}").await, 30_001);
    assert_eq!(device.code(&token, INFORM, r#"{"params":{"version":"1 0"}}"#).await, 10_001);
    assert_eq!(device.code(&token, GET, r#"{"id":[]}"#).await, 10_001);
    let fits = format!(r#"{{"params":{{"version":"1.0.0","x":"{}"}}}}"#, "x".repeat(128 * 1024 - 37));
    assert_eq!((fits.len(), device.code(&token, INFORM, &fits).await), (128 * 1024, 0));
    assert_eq!(device.code(&token, INFORM, &format!("{fits} ")).await, 10_001);
    let get = server.send(Request::get("/topic/x")).await;
    assert_eq!((get.status, &get.json()["code"]), (405, &json!(10_001)));
    // Seven days later.
    server.later_ms(7 * 24 * 3_600_000 - 1);
    assert_eq!(device.code(&token, INFORM, V1).await, 0);
    server.later_ms(1);
    assert_eq!(device.code(&token, INFORM, V1).await, 20_001);
}

#[tokio::test]
async fn a_token_ends_with_the_right_to_speak() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let device = Speaker::new(&shop, "lamp_1").await;
    let named = [("IotId", device.iot_id.as_str())];
    let token = device.token().await;
    server.ok("DisableThing", &named).await;
    assert_eq!(device.code(&token, INFORM, V1).await, 20_003);
    server.ok("EnableThing", &named).await;
    assert_eq!(device.code(&token, INFORM, V1).await, 0);
    server.ok("ResetThing", &named).await;
    assert_eq!(device.code(&token, INFORM, V1).await, 20_003);
    let token = device.token().await;
    assert_eq!(device.code(&token, INFORM, V1).await, 0);
    server.ok("DeleteDevice", &named).await;
    assert_eq!(device.code(&token, INFORM, V1).await, 20_003);
}

#[tokio::test]
async fn who_says_too_much_is_told_to_wait() {
    let server = TestServer::with(Location::Inline, |config| {
        (config.quota_scale, config.mqtt_uplink_per_second, config.api_failures_per_minute) = (0.0, 3, 2);
    })
    .await;
    let shop = Shop::open(&server).await;
    let device = Speaker::new(&shop, "lamp_1").await;
    let token = device.token().await;
    for _ in 0..2 {
        device.ok(&token, INFORM, V1).await;
    }
    let refused = device.say(&token, INFORM, V1).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    assert_eq!(refused.json()["code"], 40_000);
    assert_eq!(device.auth(&device.body(START.0)).await.json()["code"], 40_000);
    server.later_ms(1_000);
    device.ok(&token, INFORM, V1).await;
    // Whoever makes tokens up, or guesses secrets.
    assert_eq!(device.code("made-up", INFORM, V1).await, 20_003);
    assert_eq!(device.auth(&device.body(START.0).replace("\"c\"", "\"d\"")).await.json()["code"], 20_000);
    let refused = device.say(&token, INFORM, V1).await;
    assert_eq!((refused.status, refused.json()["code"].as_i64()), (429, Some(40_000)));
}

#[tokio::test]
async fn a_visit_is_no_connection_and_ends_none() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let device = Speaker::new(&shop, "lamp_1").await;
    server.device(&device.iot_id, DeviceEvent::Online { session: 1, ip: "10.0.0.1".to_owned() }).await;
    device.token().await;
    assert_eq!(text(&device.detail().await, "/Status"), "ONLINE");
    assert!(server.kicked.lock().unwrap().is_empty());
    let request = Request::post("/auth").header("content-type", "application/json");
    assert_eq!(server.send_with(request, Bytes::from_static(b"\xff\xfe")).await.json()["code"], 10_001);
}
