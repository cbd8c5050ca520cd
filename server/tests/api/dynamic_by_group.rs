//! Dynamic batches that ask for a dynamic group.

use crate::dynamic::{running, tell};
use crate::overwrite::status;
use crate::rules::{refused, tasks};
use crate::server::TestServer;
use crate::shop::{Pairs, Shop, changed, pairs, text};
use serde_json::json;

const CREATE: &str = "CreateOTADynamicUpgradeJob";

async fn group(server: &TestServer, name: &str, expression: &str) -> String {
    let params = [("GroupName", name), ("DynamicGroupExpression", expression)];
    let group = text(&server.ok("CreateDeviceDynamicGroup", &params).await, "/Data/GroupId");
    server.engine().await;
    group
}

fn request(shop: &Shop<'_>, firmware: &str, group: &str) -> Pairs {
    pairs(&[
        ("FirmwareId", firmware),
        ("ProductKey", &shop.product_key),
        ("GroupId", group),
        ("GroupType", "LINK_PLATFORM_DYNAMIC"),
    ])
}

async fn batch(shop: &Shop<'_>, firmware: &str, group: &str, more: &[(&str, &str)]) -> String {
    shop.server.later_ms(10);
    let request = changed(&request(shop, firmware, group), more);
    let job = text(&shop.server.ok(CREATE, &request).await, "/Data/JobId");
    shop.server.engine().await;
    job
}

async fn tag(server: &TestServer, device: &str, city: &str) {
    let props = format!("{{\"city\":\"{city}\"}}");
    server.ok("SaveDeviceProp", &[("IotId", device), ("Props", props.as_str())]).await;
    server.engine().await;
}

#[tokio::test]
async fn every_member_is_taken_in_now_or_when_it_comes() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let silent = shop.device("silent-1").await;
    let there = running(&shop, "there-2", "2.0.0").await;
    let strange = running(&shop, "strange-3", "1.0.0").await;
    for device in [&silent, &there] {
        tag(&server, device, "north").await;
    }
    let group = group(&server, "northern", "tag.city = 'north'").await;
    let firmware = shop.package().await;
    let job = batch(&shop, &firmware, &group, &[]).await;
    assert_eq!(tasks(&server, &job).await, ["silent-1 QUEUED "], "it need not have told a version");
    tag(&server, &strange, "north").await;
    running(&shop, "later-4", "1.0.0").await;
    tell(&server, &there, "1.5.0").await;
    assert_eq!(tasks(&server, &job).await, ["silent-1 QUEUED ", "strange-3 QUEUED ", "there-2 QUEUED "]);
    let answer = server.ok("QueryOTAJob", &[("JobId", &job)]).await;
    let data = &answer["Data"];
    assert_eq!(
        (&data["GroupId"], &data["GroupName"], &data["TargetSelection"], &data["SelectionType"]),
        (&json!(group), &json!("northern"), &json!("ALL"), &json!("DYNAMIC"))
    );
    // Who leaves keeps its task.
    tag(&server, &strange, "south").await;
    assert_eq!(tasks(&server, &job).await[1], "strange-3 QUEUED ");
    // The group cannot be deleted while the batch asks for it.
    let of = pairs(&[("GroupId", &group)]);
    refused(&server, "DeleteDeviceDynamicGroup", &of, "iot.group.GroupInUse").await;
    server.ok("CancelOTAStrategyByJob", &[("JobId", &job)]).await;
    server.ok("DeleteDeviceDynamicGroup", &of).await;
    assert_eq!(status(&server, &job).await, "CANCELED");
    assert_eq!(server.ok("QueryOTAJob", &[("JobId", &job)]).await["Data"]["GroupName"], "northern");
}

#[tokio::test]
async fn batches_of_a_group_agree_in_their_modes() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let group = group(&server, "northern", "tag.city = 'north'").await;
    let first = batch(&shop, &shop.package().await, &group, &[("OverwriteMode", "2")]).await;
    let (second, third) = (shop.package().await, shop.package().await);
    let second = request(&shop, &second, &group);
    refused(&server, CREATE, &second, "iot.ota.GroupJobModesDiffer").await;
    let multi = changed(&second, &[("MultiModuleMode", "true")]);
    refused(&server, CREATE, &multi, "iot.ota.GroupJobModesDiffer").await;
    let (_, answer) = server.call(CREATE, &second).await;
    assert!(text(&answer, "/ErrorMessage").contains(&first), "{answer}");
    batch(&shop, &third, &group, &[("OverwriteMode", "2")]).await;
    // It asks for no versions, from the beginning or later.
    let update = pairs(&[
        ("JobId", &first),
        ("MaximumPerMinute", "60"),
        ("UpgradeType", "DYNAMIC"),
        ("TargetSelection", "ALL"),
        ("SrcVersionList.1", "1.0.0"),
    ]);
    refused(&server, "UpdateOTAJob", &update, "iot.ota.InvalidJobUpdate").await;
    // A static group is not for it.
    let fixed = text(&server.ok("CreateDeviceGroup", &[("GroupName", "fixed")]).await, "/Data/GroupId");
    let fixed = changed(&second, &[("GroupId", &fixed)]);
    refused(&server, CREATE, &fixed, "iot.group.NotExistedGroup").await;
}

#[tokio::test]
async fn the_later_mode_waits_for_a_members_report() {
    let server = TestServer::on_disk().await;
    let shop = Shop::open(&server).await;
    let device = running(&shop, "lamp-1", "1.0.0").await;
    let group = group(&server, "northern", "tag.city = 'north'").await;
    let job = batch(&shop, &shop.package().await, &group, &[("DynamicMode", "2")]).await;
    tag(&server, &device, "north").await;
    assert!(tasks(&server, &job).await.is_empty());
    tell(&server, &device, "1.0.0").await;
    assert_eq!(tasks(&server, &job).await, ["lamp-1 QUEUED "]);
}
