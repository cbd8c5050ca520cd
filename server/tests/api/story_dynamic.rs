//! The part of the story that is about dynamic batches.

use super::{Story, report};

/// A batch takes in whoever reports a version, until its strategy ends.
pub async fn dynamic(story: &mut Story, key: &str, package: &str, device: &str) {
    let rule = [
        ("FirmwareId", package),
        ("ProductKey", key),
        ("SrcVersion.1", "1.2.0"),
        ("SrcVersion.2", "1.3.0"),
        ("DynamicMode", "2"),
        ("OverwriteMode", "2"),
        ("MaximumPerMinute", "60"),
        ("Tag.1.Key", "campaign"),
        ("Tag.1.Value", "<summer> & 夏"),
    ];
    let batch = story.call("CreateOTADynamicUpgradeJob", &rule).await.text("Data/JobId").to_owned();
    story.device(device, report("1.2.0")).await;
    story.server.engine().await;
    story.call("QueryOTAJob", &[("JobId", &batch)]).await;
    story.call("ListOTATaskByJob", &[("JobId", &batch)]).await;
    let changes = [
        ("JobId", batch.as_str()),
        ("MaximumPerMinute", "120"),
        ("TargetSelection", "ALL"),
        ("UpgradeType", "DYNAMIC"),
        ("TimeoutInMinutes", "30"),
        ("SrcVersionList.1", "1.3.0"),
        ("Tags.1.Key", "campaign"),
        ("Tags.1.Value", "autumn"),
    ];
    story.call("UpdateOTAJob", &changes).await;
    story.call("CancelOTAStrategyByJob", &[("JobId", &batch)]).await;
    let list = [("FirmwareId", package), ("CurrentPage", "1"), ("PageSize", "10")];
    story.call("ListOTAJobByFirmware", &list).await;
    story.call("CancelOTATaskByJob", &[("JobId", &batch), ("CancelQueuedTask", "true")]).await;
}
