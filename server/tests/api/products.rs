//! Products: their quota, their tags, their end.

use crate::server::TestServer;
use crate::shop::{Pairs, Shop, pairs, text};
use serde_json::{Value, json};
use updraft_store::Location;

async fn product(server: &TestServer, name: &str) -> String {
    let made = server.ok("CreateProduct", &[("ProductName", name), ("NodeType", "0")]).await;
    text(&made, "/ProductKey")
}

fn tags(key: &str, numbers: std::ops::Range<usize>) -> Pairs {
    let mut all = pairs(&[("ProductKey", key)]);
    for (at, number) in (1..).zip(numbers) {
        all.push((format!("ProductTag.{at}.TagKey"), format!("k{number}")));
        all.push((format!("ProductTag.{at}.TagValue"), "v".to_owned()));
    }
    all
}

#[tokio::test]
async fn what_a_product_is_made_with_is_answered() {
    let server = TestServer::new().await;
    let wanted = [
        ("ProductName", "meters"),
        ("NodeType", "0"),
        ("ProtocolType", "opc-ua"),
        ("CategoryKey", "WaterMeter"),
        ("PublishAuto", "false"),
        ("ValidateType", "2"),
    ];
    let made = server.ok("CreateProduct", &wanted).await;
    assert_eq!(text(&made, "/Data/ProtocolType"), "opc-ua");
    let found = server.ok("QueryProduct", &[("ProductKey", text(&made, "/ProductKey"))]).await;
    let found = &found["Data"];
    assert_eq!(
        (&found["ProtocolType"], &found["CategoryKey"], &found["ValidateType"]),
        (&json!("opc-ua"), &json!("WaterMeter"), &json!(2))
    );
    let plain = product(&server, "plain").await;
    let found = server.ok("QueryProduct", &[("ProductKey", &plain)]).await;
    assert_eq!((&found["Data"]["ProtocolType"], &found["Data"]["ValidateType"]), (&Value::Null, &json!(1)));
}

#[tokio::test]
async fn an_instance_has_so_many_products_and_room_again_after_a_deletion() {
    let server = TestServer::with(Location::Inline, |config| config.product_max = 2).await;
    let first = product(&server, "first").await;
    product(&server, "second").await;
    let third = [("ProductName", "third"), ("NodeType", "0")];
    let (_, refused) = server.call("CreateProduct", &third).await;
    assert_eq!(text(&refused, "/Code"), "iot.prod.ProductCountExceedMax");
    assert!(text(&refused, "/ErrorMessage").contains("2 products"), "{refused}");
    server.ok("DeleteProduct", &[("ProductKey", &first)]).await;
    server.ok("CreateProduct", &third).await;
}

#[tokio::test]
async fn a_product_is_renamed_to_a_free_name_only() {
    let server = TestServer::new().await;
    let (lamps, meters) = (product(&server, "lamps").await, product(&server, "meters").await);
    let rename = async |key: &str, name: &str| {
        server.call("UpdateProduct", &[("ProductKey", key), ("ProductName", name)]).await.1
    };
    assert_eq!(rename(&meters, "lamps").await["Code"], "iot.prod.AlreadyExistedProductName");
    let described = [("ProductKey", &*lamps), ("ProductName", "lamps"), ("Description", "bright")];
    server.ok("UpdateProduct", &described).await;
    assert_eq!(rename(&lamps, "lights").await["Success"], true);
    assert_eq!(rename(&meters, "lamps").await["Success"], true);
    // What is not given stays.
    let found = server.ok("QueryProduct", &[("ProductKey", &lamps)]).await;
    assert_eq!(
        (text(&found, "/Data/ProductName"), text(&found, "/Data/Description")),
        ("lights".into(), "bright".into())
    );
}

#[tokio::test]
async fn of_two_equal_creations_at_once_one_succeeds_and_the_other_is_told_why() {
    let server = TestServer::on_disk().await;
    let key = product(&server, "lamps").await;
    let created = [("ProductName", "meters"), ("NodeType", "0")];
    let tagged = tags(&key, 0..3);
    for round in 0..2 {
        let answers = if round == 0 {
            tokio::join!(server.call("CreateProduct", &created), server.call("CreateProduct", &created))
        } else {
            tokio::join!(server.call("CreateProductTags", &tagged), server.call("CreateProductTags", &tagged))
        };
        let codes: Vec<&Value> = [&answers.0.1, &answers.1.1].map(|answer| &answer["Code"]).to_vec();
        let expected = ["iot.prod.AlreadyExistedProductName", "iot.prod.AlreadyExistedProductTag"][round];
        assert_eq!(codes.iter().filter(|code| code.is_null()).count(), 1, "{answers:?}");
        assert_eq!(codes.iter().filter(|code| ***code == *expected).count(), 1, "{answers:?}");
    }
}

#[tokio::test]
async fn tags_are_made_changed_listed_and_deleted() {
    let server = TestServer::new().await;
    let key = product(&server, "lamps").await;
    let of = async || {
        let all = server.ok("ListProductTags", &[("ProductKey", &key)]).await;
        let rows = all["Data"]["ProductTag"].as_array().unwrap().clone();
        rows.iter()
            .map(|tag| text(tag, "/TagKey") + "=" + &text(tag, "/TagValue"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    server.ok("CreateProductTags", &tags(&key, 0..2)).await;
    // All of a call or nothing of it, and the ones in the way are told.
    let (_, refused) = server.call("CreateProductTags", &tags(&key, 1..4)).await;
    assert_eq!(refused["Code"], "iot.prod.AlreadyExistedProductTag");
    assert_eq!(refused["InvalidProductTags"]["ProductTag"], json!([{"TagKey": "k1", "TagValue": "v"}]));
    let (_, refused) = server.call("UpdateProductTags", &tags(&key, 1..3)).await;
    assert_eq!(refused["Code"], "iot.prod.NotExistedProductTag");
    assert_eq!(refused["InvalidProductTags"]["ProductTag"], json!([{"TagKey": "k2", "TagValue": "v"}]));
    assert_eq!(of().await, "k0=v k1=v");
    let change = crate::shop::changed(&tags(&key, 1..2), &[("ProductTag.1.TagValue", "w")]);
    server.ok("UpdateProductTags", &change).await;
    assert_eq!(of().await, "k0=v k1=w");
    for _ in 0..2 {
        server.ok("DeleteProductTags", &[("ProductKey", &*key), ("ProductTagKey.1", "k0")]).await;
    }
    assert_eq!(of().await, "k1=w");
}

#[tokio::test]
async fn a_product_has_a_hundred_tags_at_most() {
    let server = TestServer::new().await;
    let key = product(&server, "lamps").await;
    for ten in 0..10 {
        server.ok("CreateProductTags", &tags(&key, 10 * ten..10 * ten + 10)).await;
    }
    let more = server.call("CreateProductTags", &tags(&key, 100..101)).await.1;
    assert_eq!(more["Code"], "iot.prod.ProductTagCountExceedMax");
    assert_eq!(server.call("CreateProductTags", &tags(&key, 200..211)).await.1["Code"], "InvalidProductTag");
    server.ok("DeleteProductTags", &[("ProductKey", &*key), ("ProductTagKey.1", "k0")]).await;
    server.ok("CreateProductTags", &tags(&key, 100..101)).await;
}

#[tokio::test]
async fn products_are_found_by_any_of_their_tags() {
    let server = TestServer::new().await;
    for (name, numbers) in [("first", 0..2), ("second", 1..3), ("third", 3..4)] {
        let key = product(&server, name).await;
        server.ok("CreateProductTags", &tags(&key, numbers)).await;
    }
    let found = async |asked: &[(&str, &str)]| {
        let all = server.ok("ListProductByTags", asked).await;
        let rows = all["ProductInfos"]["ProductInfo"].as_array().unwrap().clone();
        rows.iter().map(|row| text(row, "/ProductName")).collect::<Vec<_>>().join(" ")
    };
    let k0 = [("ProductTag.1.TagKey", "k0"), ("ProductTag.1.TagValue", "v")];
    let (k1, k3) = (("ProductTag.1.TagKey", "k1"), ("ProductTag.2.TagKey", "k3"));
    assert_eq!(found(&k0).await, "first");
    assert_eq!(found(&[k0[0], ("ProductTag.1.TagValue", "w")]).await, "");
    assert_eq!(found(&[k1]).await, "second first");
    assert_eq!(found(&[k1, k3]).await, "third second first");
    assert_eq!(found(&[k1, k3, ("PageSize", "2"), ("CurrentPage", "2")]).await, "first");
    assert_eq!(found(&[k1, k3, ("PageSize", "2"), ("CurrentPage", "3")]).await, "");
}

#[tokio::test]
async fn a_product_with_devices_stays_and_one_without_goes_with_all_that_is_its_own() {
    let server = TestServer::new().await;
    let shop = Shop::open(&server).await;
    let package = shop.package().await;
    shop.device("lamp-1").await;
    let named = [("ProductKey", shop.product_key.as_str())];
    let (_, refused) = server.call("DeleteProduct", &named).await;
    assert_eq!(refused["Code"], "iot.prod.ProductHasDevices");
    assert!(text(&refused, "/ErrorMessage").contains("1 device"), "{refused}");

    let gone = Shop::open_as(&server, "gone_").await;
    let (key, package_gone) = (gone.product_key.clone(), gone.package().await);
    let named = [("ProductKey", key.as_str())];
    server.ok("CreateProductTags", &tags(&key, 0..1)).await;
    server.ok("CreateOTAModule", &[named[0], ("ModuleName", "radio")]).await;
    server.ok("DeleteProduct", &named).await;
    for action in ["QueryProduct", "DeleteProduct", "ListProductTags", "ListOTAModuleByProduct"] {
        let (_, answer) = server.call(action, &named).await;
        assert_eq!(answer["Code"], "iot.prod.NotExistedProduct", "{action}");
    }
    let register = server.call("RegisterDevice", &[named[0], ("DeviceName", "meter-1")]).await;
    assert_eq!(register.1["Code"], "iot.prod.NotExistedProduct");
    let list = server.ok("QueryProductList", &[("CurrentPage", "1"), ("PageSize", "10")]).await;
    assert_eq!(list["Data"]["Total"], 1);
    let tagged = server.ok("ListProductByTags", &[("ProductTag.1.TagKey", "k0")]).await;
    assert_eq!(tagged["ProductInfos"]["ProductInfo"], json!([]));
    let (_, answer) = server.call("QueryOTAFirmware", &[("FirmwareId", &package_gone)]).await;
    assert_eq!(answer["Code"], "iot.ota.FirmwareNotFound");
    // Its name is free again; the other product kept what it had.
    assert_ne!(product(&server, "gone_lamps").await, key);
    server.ok("QueryOTAFirmware", &[("FirmwareId", &package)]).await;
}
