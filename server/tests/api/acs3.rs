//! ACS3-HMAC-SHA256: the header signature of current SDKs.

use crate::server::{Answer, HOST, Key, RAM_USER, ROOT, TestServer};
use crate::tree;
use http::{Method, Request};
use sha2::{Digest as _, Sha256};
use updraft_server::api::params::Params;
use updraft_server::api::sign::{acs3_signature, acs3_string_to_sign};

const ACTION: &str = "GenerateOTAUploadURL";
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A call as a Tea SDK makes it; tests change it before it is sent.
pub struct Call {
    method: Method,
    pub key: Key,
    query: String,
    body: &'static str,
    headers: Vec<(String, String)>,
    pub signed: Vec<String>,
}

impl Call {
    pub fn new(server: &TestServer) -> Self {
        let headers: Vec<(String, String)> = [
            ("accept", "application/json"),
            ("host", HOST),
            ("user-agent", "AlibabaCloud (Linux; x86_64) Python/3.11.7 Core/0.4.3 TeaDSL/2"),
            ("x-acs-action", ACTION),
            ("x-acs-content-sha256", EMPTY_SHA256),
            ("x-acs-credentials-provider", "static_ak"),
            ("x-acs-date", &server.timestamp()),
            ("x-acs-signature-nonce", &server.nonce()),
            ("x-acs-version", "2018-01-20"),
        ]
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
        let signed = headers.iter().map(|(name, _)| name.clone()).collect();
        let query = "FileSuffix=tar.gz".to_owned();
        Self { method: Method::POST, key: ROOT, query, body: "", headers, signed }
    }

    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(found, _)| found != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn form(self, body: &'static str) -> Self {
        let hash = hex::encode(Sha256::digest(body.as_bytes()));
        let form = "application/x-www-form-urlencoded";
        Self { body, ..self }.set("content-type", form).set("x-acs-content-sha256", &hash)
    }

    /// The `Authorization` header.
    pub fn authorization(&self) -> String {
        let header =
            |name: &str| self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
        let query = Params::read(&self.query, b"").unwrap();
        let hash = header("x-acs-content-sha256").unwrap_or_default();
        let string = acs3_string_to_sign(self.method.as_str(), &query, &self.signed, header, &hash);
        format!(
            "ACS3-HMAC-SHA256 Credential={},SignedHeaders={},Signature={}",
            self.key.id,
            self.signed.join(";"),
            acs3_signature(self.key.secret, &string)
        )
    }

    pub async fn send(self, server: &TestServer) -> Answer {
        let authorization = self.authorization();
        self.send_as(server, &authorization).await
    }

    pub async fn send_as(self, server: &TestServer, authorization: &str) -> Answer {
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("/?{}", self.query))
            .header("authorization", authorization);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        server.send_with(request, self.body).await
    }
}

#[tokio::test]
async fn calls_of_tea_sdks_are_good_with_get_and_post_query_and_form() {
    let server = TestServer::new().await;
    for method in [Method::GET, Method::POST] {
        let answer = Call { method, ..Call::new(&server) }.send(&server).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json;charset=utf-8"));
        assert!(answer.body.contains(".tar.gz\""), "{}", answer.body);
    }
    let mut call = Call::new(&server).form("FileSuffix=zip");
    call.signed.push("content-type".to_owned());
    let answer = call.send(&server).await;
    assert!(answer.body.contains(".zip\""), "the body's value counts: {}", answer.body);
    // Go signs a narrower set.
    let mut call = Call::new(&server);
    call.signed.retain(|name| name == "host" || name.starts_with("x-acs-"));
    assert_eq!(Call { key: RAM_USER, ..call }.send(&server).await.status, 200);
}

#[tokio::test]
async fn the_answer_is_json_unless_xml_is_asked_for() {
    let server = TestServer::new().await;
    for (accept, query, xml) in [
        ("application/json", "", false),
        ("*/*", "", false),
        ("text/xml", "", true),
        ("application/xml", "", true),
        ("application/json", "Format=XML", true),
        ("text/xml", "Format=json", false),
    ] {
        let call = Call::new(&server).set("accept", accept);
        let answer = Call { query: query.to_owned(), ..call }.send(&server).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("content-type").starts_with("text/xml"), xml, "{accept} {query}");
    }
}

#[tokio::test]
async fn every_header_that_matters_must_be_signed() {
    let server = TestServer::new().await;
    for bare in [
        "host",
        "x-acs-action",
        "x-acs-version",
        "x-acs-date",
        "x-acs-content-sha256",
        "x-acs-signature-nonce",
    ] {
        let mut call = Call::new(&server);
        call.signed.retain(|name| name != bare);
        let answer = call.send(&server).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "IncompleteSignature"), "{bare}");
        assert!(answer.message().contains(bare), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_header_changed_after_signing_does_not_match() {
    let server = TestServer::new().await;
    for (name, value) in [
        ("host", "elsewhere.example.com"),
        ("user-agent", "a proxy"),
        ("x-acs-action", "CreateProduct"),
        ("x-acs-credentials-provider", "other"),
        ("x-acs-signature-nonce", "another"),
    ] {
        let call = Call::new(&server);
        let authorization = call.authorization();
        let answer = call.set(name, value).send_as(&server, &authorization).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "SignatureDoesNotMatch"), "{name}");
        assert!(answer.message().contains("server string to sign is:ACS3-HMAC-SHA256"), "{}", answer.body);
    }
    let call = Call::new(&server);
    let authorization = call.authorization();
    let query = "FileSuffix=zip".to_owned();
    let answer = Call { query, ..call }.send_as(&server, &authorization).await;
    assert_eq!(answer.code(), "SignatureDoesNotMatch");
}

#[tokio::test]
async fn the_body_must_have_the_signed_hash() {
    let server = TestServer::new().await;
    let call = Call { body: "FileSuffix=zip", ..Call::new(&server) };
    let answer = call.send(&server).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "SignatureDoesNotMatch"));
    assert!(answer.message().contains("x-acs-content-sha256"), "{}", answer.body);
}

#[tokio::test]
async fn missing_and_broken_headers_are_named() {
    let server = TestServer::new().await;
    for (missing, code) in [
        ("x-acs-action", "MissingAction"),
        ("x-acs-version", "MissingVersion"),
        ("x-acs-date", "MissingTimestamp"),
        ("x-acs-signature-nonce", "MissingSignatureNonce"),
        ("x-acs-content-sha256", "MissingContentSha256"),
    ] {
        let mut call = Call::new(&server);
        call.headers.retain(|(name, _)| name != missing);
        let answer = call.send(&server).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code));
    }
    for (name, value, status, code) in [
        ("x-acs-action", "FlyToTheMoon", 404, "InvalidAction.NotFound"),
        ("x-acs-version", "2022-01-01", 400, "InvalidVersion"),
        ("x-acs-date", "yesterday", 400, "InvalidTimeStamp.Format"),
        ("x-acs-date", "2024-05-20T11:44:59Z", 400, "InvalidTimeStamp.Expired"),
        ("x-acs-security-token", "token", 400, "IncompleteSignature"),
    ] {
        let answer = Call::new(&server).set(name, value).send(&server).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{name}");
    }
    for authorization in ["ACS3-HMAC-SHA256 Credential=root-key", "ACS3-RSA-SHA256 x", "ACS3-"] {
        let answer = Call::new(&server).send_as(&server, authorization).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "IncompleteSignature"), "{authorization}");
    }
}

#[tokio::test]
async fn keys_and_nonces_are_those_of_the_other_scheme() {
    let server = TestServer::new().await;
    let wrong = Key { secret: "wrong", ..ROOT };
    let answer = Call { key: wrong, ..Call::new(&server) }.send(&server).await;
    assert_eq!(answer.code(), "SignatureDoesNotMatch");
    let nobody = Key { id: "nobody", secret: "x" };
    let answer = Call { key: nobody, ..Call::new(&server) }.send(&server).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "InvalidAccessKeyId.NotFound"));

    let call = Call::new(&server).set("x-acs-signature-nonce", "once");
    assert_eq!(call.send(&server).await.status, 200);
    let mut params = server.common(ROOT, ACTION, "JSON");
    params.insert("SignatureNonce".to_owned(), "once".to_owned());
    let answer = server.send_signed(Method::GET, ROOT, params).await;
    assert_eq!(answer.code(), "SignatureNonceUsed", "one memory for both schemes");
}

#[tokio::test]
async fn failures_come_in_the_format_asked_for() {
    let server = TestServer::new().await;
    let answer = Call::new(&server).set("x-acs-version", "1").send(&server).await;
    assert_eq!(answer.header("content-type"), "application/json;charset=utf-8");
    let answer = Call::new(&server).set("x-acs-version", "1").set("accept", "text/xml").send(&server).await;
    assert_eq!(tree::from_xml(&answer.body).name, "Error");
}
