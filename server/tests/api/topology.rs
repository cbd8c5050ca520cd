//! Gateways and the devices behind them, as back ends see and change them, and as gateways ask for them.

use crate::family::topo;
use crate::server::TestServer;
use crate::shop::{Shop, text};
use std::sync::Arc;
use updraft_core::id::DeviceNo;
use updraft_core::topo::Refusal;
use updraft_server::device::gateway::sign::Signed;
use updraft_server::device::gateway::{Answer, Claim, Name, Request};
use updraft_server::device::link::DeviceEvent;
use updraft_server::engine::gateway;
use updraft_store::DeviceLogin;

async fn no(server: &TestServer, key: &str, name: &str) -> DeviceNo {
    let (key, name) = (key.to_owned(), name.to_owned());
    let found = server.app.store.read(move |tx| tx.device_login(&key, &name)).await.unwrap();
    let Some(DeviceLogin::Known { device, .. }) = found else { panic!("there is no such device") };
    device
}

async fn ask(server: &TestServer, gateway: DeviceNo, request: Request) -> Result<Answer, Refusal> {
    let answer = gateway::answer(&Arc::clone(&server.app), gateway, request).await.unwrap();
    answer.map_err(|refused| refused.why)
}

fn value<'a>(pairs: &'a [(String, String)], name: &str) -> &'a str {
    &pairs.iter().find(|(known, _)| known == name).unwrap().1
}

#[tokio::test]
async fn a_device_moves_from_gateway_to_gateway_and_ends_there() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let key = shop.product_key.clone();
    let first = topo::valid(&shop, "BatchAddThingTopo", "device_one").await.unwrap();
    let second = topo::valid(&shop, "BatchAddThingTopo", "device_two").await.unwrap();
    server.ok("BatchAddThingTopo", &first).await;
    let named = [("ProductKey", key.as_str()), ("DeviceName", "device_one")];
    let behind = server.ok("GetGatewayBySubDevice", &named).await;
    assert_eq!(behind["Data"]["ProductKey"], value(&first, "GwProductKey"));
    assert_eq!((&behind["Data"]["NodeType"], &behind["Data"]["Status"]), (&"1".into(), &"UNACTIVE".into()));
    // The last one that adds it has it.
    let gateway = [("GwProductKey", value(&second, "GwProductKey")), ("GwDeviceName", "device_two")];
    let items = first.iter().filter(|(name, _)| name.starts_with("TopoAddItem"));
    let moved: Vec<(&str, &str)> =
        gateway.into_iter().chain(items.map(|(name, value)| (name.as_str(), value.as_str()))).collect();
    server.ok("BatchAddThingTopo", &moved).await;
    let list = |key: String, name: &'static str| {
        let server = &server;
        async move {
            let page =
                [("PageNo", "1"), ("PageSize", "10"), ("ProductKey", key.as_str()), ("DeviceName", name)];
            server.ok("GetThingTopo", &page).await["Data"].clone()
        }
    };
    let of_first = list(value(&first, "GwProductKey").to_owned(), "device_one").await;
    assert_eq!(of_first["Total"], 0);
    let of_second = list(value(&second, "GwProductKey").to_owned(), "device_two").await;
    assert_eq!(
        (&of_second["Total"], &of_second["List"]["deviceInfo"][0]["DeviceName"]),
        (&1.into(), &"device_one".into())
    );
    server.ok("RemoveThingTopo", &named).await;
    let (_, again) = server.call("RemoveThingTopo", &named).await;
    assert_eq!(again["Code"], "iot.device.RemoveTopoRelationFailed");
    let (_, none) = server.call("GetGatewayBySubDevice", &named).await;
    assert_eq!(none["Code"], "iot.device.QueryTopoRelationFailed");
    // A gateway without devices has nothing to lose.
    let empty = [("ProductKey", value(&second, "GwProductKey")), ("DeviceName", "device_two")];
    server.ok("RemoveThingTopo", &empty).await;
    let mut no_gateway = moved.clone();
    no_gateway[0].1 = &key;
    let (_, refused) = server.call("BatchAddThingTopo", &no_gateway).await;
    assert_eq!(refused["Code"], "iot.device.AddTopoRelationFailed");
}

#[tokio::test]
async fn a_gateway_asks_for_its_devices() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let key = shop.product_key.clone();
    let request = topo::valid(&shop, "BatchAddThingTopo", "device_one").await.unwrap();
    let gateway = no(&server, value(&request, "GwProductKey"), "device_one").await;
    let sub = no(&server, &key, "device_one").await;
    let name = Name { product_key: key.clone(), device_name: "device_one".to_owned() };
    let content = format!("clientIdcdeviceNamedevice_oneproductKey{key}timestamp7");
    let signed = |sign: &str| Claim {
        name: name.clone(),
        signed: Signed::new(Some("hmacSha256"), content.clone(), sign.to_owned()),
    };
    let (good, bad) = (signed(value(&request, "TopoAddItem.1.Sign")), signed("00"));
    assert_eq!(ask(&server, gateway, Request::Find(vec![good.clone()])).await, Err(Refusal::NoTopology));
    assert_eq!(ask(&server, gateway, Request::Add(vec![bad.clone()])).await, Err(Refusal::Signature));
    assert_eq!(ask(&server, sub, Request::Add(vec![good.clone()])).await, Err(Refusal::NoGateway));
    let done = Ok(Answer::Done(vec![name.clone()]));
    assert_eq!(ask(&server, gateway, Request::Add(vec![good.clone()])).await, done);
    assert_eq!(ask(&server, gateway, Request::List).await, done);
    assert_eq!(ask(&server, gateway, Request::Find(vec![good.clone()])).await, Ok(Answer::Found(vec![sub])));
    assert_eq!(ask(&server, gateway, Request::Find(vec![bad])).await, Err(Refusal::LoginSignature));

    // The product's switch decides whether it is told the secret.
    let register = || Request::Register(vec![name.clone()]);
    assert_eq!(ask(&server, gateway, register()).await, Err(Refusal::RegistrationOff));
    let on = [("ProductKey", key.as_str()), ("DynamicRegister", "PREREGISTERED")];
    server.ok("SetProductDynamicRegister", &on).await;
    for _ in 0..2 {
        let Ok(Answer::Secrets(secrets)) = ask(&server, gateway, register()).await else {
            panic!("no secret")
        };
        let detail = server
            .ok("QueryDeviceDetail", &[("ProductKey", key.as_str()), ("DeviceName", "device_one")])
            .await;
        assert_eq!(secrets[0].secret, text(&detail, "/Data/DeviceSecret"));
    }
    let other = topo::valid(&shop, "BatchAddThingTopo", "device_two").await.unwrap();
    let other = no(&server, value(&other, "GwProductKey"), "device_two").await;
    assert_eq!(ask(&server, other, register()).await, Err(Refusal::BehindAnother));
    let wrong = Request::ProductRegister(vec![Claim {
        name: name.clone(),
        signed: Signed::new(Some("hmacSha256"), "x".to_owned(), "00".to_owned()),
    }]);
    assert_eq!(ask(&server, gateway, wrong).await, Err(Refusal::RegisterSignature));

    // A login through a gateway that the device is not behind any more does not count.
    let online = DeviceEvent::Online { session: 5, ip: "192.0.2.1".to_owned() };
    let through = DeviceEvent::Through { session: 5, gateway: other };
    let happened = |event| updraft_server::device::link::Happened { device: sub, event };
    updraft_server::engine::ingest::take(&server.app, vec![happened(online.clone()), happened(through)])
        .await
        .unwrap();
    let status = [("ProductKey", key.as_str()), ("DeviceName", "device_one")];
    assert_eq!(server.ok("GetDeviceStatus", &status).await["Data"]["Status"], "UNACTIVE");
    let through = DeviceEvent::Through { session: 5, gateway };
    updraft_server::engine::ingest::take(&server.app, vec![happened(online), happened(through)])
        .await
        .unwrap();
    assert_eq!(server.ok("GetDeviceStatus", &status).await["Data"]["Status"], "ONLINE");
    assert_eq!(ask(&server, gateway, Request::Unregister(vec![name.clone()])).await, done);
    assert_eq!(ask(&server, gateway, Request::List).await, Ok(Answer::Done(Vec::new())));
    assert_eq!(ask(&server, gateway, Request::Remove(vec![name.clone()])).await, Err(Refusal::NoTopology));
}
