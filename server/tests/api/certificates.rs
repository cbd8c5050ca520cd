//! Products whose devices log in with certificates. The logins themselves: `acceptance/test_certificates.py`.

use crate::server::TestServer;
use crate::shop::text;
use updraft_server::authority::serial_of;
use updraft_server::tls::validity;

fn product<'a>(name: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("ProductName", name), ("NodeType", "0"), ("AuthType", "x509")], more].concat()
}

#[tokio::test]
async fn a_device_of_such_a_product_has_one_certificate() {
    let server = TestServer::new().await;
    let made = server.ok("CreateProduct", &product("certified", &[])).await;
    assert_eq!(text(&made, "/Data/AuthType"), "x509");
    let key = text(&made, "/ProductKey");
    assert_eq!(text(&server.ok("QueryProduct", &[("ProductKey", &key)]).await, "/Data/AuthType"), "x509");
    let mut serials = Vec::new();
    for name in ["dev1", "dev2"] {
        let named = [("ProductKey", key.as_str()), ("DeviceName", name)];
        server.ok("RegisterDevice", &named).await;
        let answer = server.ok("QueryDeviceCert", &named).await;
        assert_eq!(answer["DeviceCertInfo"]["Status"], 2);
        let pem = text(&answer, "/DeviceCertInfo/Certificate");
        let certificate = {
            use rustls::pki_types::pem::PemObject as _;
            rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
        };
        let serial = text(&answer, "/DeviceCertInfo/CertSN");
        assert_eq!(serial_of(&certificate).as_ref(), Some(&serial));
        let valid = validity(&certificate).unwrap();
        assert!(valid.end.duration_since(valid.start).unwrap().as_secs() > 29 * 365 * 86_400);
        assert!(text(&answer, "/DeviceCertInfo/PrivateKey").starts_with("-----BEGIN PRIVATE KEY-----"));
        let again = server.ok("QueryDeviceCert", &named).await;
        assert_eq!(again["DeviceCertInfo"], answer["DeviceCertInfo"], "it stays");
        serials.push(serial);
    }
    assert_ne!(serials[0], serials[1]);
}

#[tokio::test]
async fn others_have_none() {
    let server = TestServer::new().await;
    let made =
        server.ok("CreateProduct", &[("ProductName", "secret"), ("NodeType", "0"), ("AuthType", "secret")]);
    let made = made.await;
    assert_eq!(text(&made, "/Data/AuthType"), "secret");
    let key = text(&made, "/ProductKey");
    let named = [("ProductKey", key.as_str()), ("DeviceName", "dev1")];
    server.ok("RegisterDevice", &named).await;
    for (action, params, code) in [
        ("QueryDeviceCert", named.to_vec(), "InvalidProductKey"),
        ("CreateProduct", product("lora", &[("NetType", "LORA")]), "InvalidAuthType"),
    ] {
        let (_, refused) = server.call(action, &params).await;
        assert_eq!(refused["Code"], code, "{refused}");
    }
}
