//! What most tests need first: products, devices, packages, batches, made through the API.

use crate::family;
use crate::server::TestServer;
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};

/// Parameters of a call.
pub type Pairs = Vec<(String, String)>;

/// A file's content.
pub const IMAGE: &[u8] = b"firmware image";
pub const IMAGE_MD5: &str = "dc6f9e808a395298c3b395c9b972586f";
pub const IMAGE_SHA256: &str = "1df2f3853d10a305aa52d36fd4a03f5721d7ce7daef6f7e5e8d51074d31361f1";

/// Makes things with names that nobody has.
pub struct Shop<'a> {
    pub server: &'a TestServer,
    pub product_key: String,
    prefix: &'static str,
    made: AtomicU64,
}

/// Owned parameters.
pub fn pairs(params: &[(&str, &str)]) -> Pairs {
    params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The text at a JSON pointer.
pub fn text(answer: &Value, pointer: &str) -> String {
    let found = answer.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("there is no {pointer} in {answer}")).to_owned()
}

impl<'a> Shop<'a> {
    /// A product.
    pub async fn open(server: &'a TestServer) -> Self {
        Self::open_as(server, "").await
    }

    /// A product; everything has a name that begins so.
    pub async fn open_as(server: &'a TestServer, prefix: &'static str) -> Self {
        let name = format!("{prefix}lamps");
        let answer = server.ok("CreateProduct", &[("ProductName", name.as_str()), ("NodeType", "0")]).await;
        Self { server, product_key: text(&answer, "/ProductKey"), prefix, made: AtomicU64::new(0) }
    }

    /// A name that nobody has, and that no other begins with.
    pub fn name(&self, what: &str) -> String {
        format!("{}{what}_{:04}", self.prefix, self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// A device; answers its IotId.
    pub async fn device(&self, name: &str) -> String {
        let params = [("ProductKey", self.product_key.as_str()), ("DeviceName", name)];
        text(&self.server.ok("RegisterDevice", &params).await, "/Data/IotId")
    }

    /// An uploaded file; answers its FirmwareUrl.
    pub async fn file(&self) -> String {
        self.file_of(IMAGE).await
    }

    /// An uploaded file with this content; answers its FirmwareUrl.
    pub async fn file_of(&self, content: &[u8]) -> String {
        let ticket = self.server.ok("GenerateOTAUploadURL", &[("FileSuffix", "bin")]).await;
        self.server.upload(|field| text(&ticket, &format!("/Data/{field}")), content).await;
        text(&ticket, "/Data/FirmwareUrl")
    }

    /// What makes a package of these uploaded files, by name and FirmwareUrl.
    pub fn several(&self, files: &[(&str, &str)]) -> Pairs {
        let mut request = pairs(&[
            ("ProductKey", &self.product_key),
            ("FirmwareName", &self.name("package")),
            ("DestVersion", "2.0.0"),
        ]);
        for ((name, url), n) in files.iter().zip(1..) {
            request.push((format!("MultiFiles.{n}.Name"), (*name).to_owned()));
            request.push((format!("MultiFiles.{n}.Url"), (*url).to_owned()));
        }
        request
    }

    /// What makes a package of a new file.
    pub async fn package_request(&self) -> Pairs {
        pairs(&[
            ("ProductKey", &self.product_key),
            ("FirmwareName", &self.name("package")),
            ("DestVersion", "2.0.0"),
            ("FirmwareUrl", &self.file().await),
        ])
    }

    /// A package that must be verified; answers its FirmwareId.
    pub async fn unverified(&self) -> String {
        let request = self.package_request().await;
        text(&self.server.ok("CreateOTAFirmware", &request).await, "/Data/FirmwareId")
    }

    /// A package that needs no verification; answers its FirmwareId.
    pub async fn package(&self) -> String {
        let mut request = self.package_request().await;
        request.extend(pairs(&[("NeedToVerify", "false")]));
        text(&self.server.ok("CreateOTAFirmware", &request).await, "/Data/FirmwareId")
    }

    /// What makes a static batch for one device.
    pub fn batch_request(&self, firmware: &str, device: &str) -> Pairs {
        pairs(&[
            ("FirmwareId", firmware),
            ("ProductKey", &self.product_key),
            ("TargetSelection", "SPECIFIC"),
            ("TargetDeviceName.1", device),
        ])
    }

    /// A static batch for one device, with more parameters; answers its JobId.
    pub async fn batch(&self, firmware: &str, device: &str, more: &[(&str, &str)]) -> String {
        let mut request = self.batch_request(firmware, device);
        request.extend(pairs(more));
        text(&self.server.ok("CreateOTAStaticUpgradeJob", &request).await, "/Data/JobId")
    }

    /// A verification batch for one device; answers its JobId.
    pub async fn verification(&self, firmware: &str, device: &str) -> String {
        let request = pairs(&[
            ("FirmwareId", firmware),
            ("ProductKey", &self.product_key),
            ("TargetDeviceName.1", device),
        ]);
        text(&self.server.ok("CreateOTAVerifyJob", &request).await, "/Data/JobId")
    }

    /// The id of a batch's only task.
    pub async fn task(&self, job: &str) -> String {
        text(&self.server.ok("ListOTATaskByJob", &[("JobId", job)]).await, "/Data/SimpleOTATaskInfo/0/TaskId")
    }

    /// Parameters with which an operation succeeds, on things made for this call only.
    pub async fn valid(&self, action: &str) -> Pairs {
        let device = self.name("device");
        let key = self.product_key.as_str();
        if let Some(found) = family::valid(self, action, &device).await {
            return found;
        }
        match action {
            "CreateProduct" => pairs(&[("ProductName", &self.name("product")), ("NodeType", "1")]),
            "RegisterDevice" => pairs(&[("ProductKey", key), ("DeviceName", &device)]),
            "QueryProduct" | "QueryDevice" => pairs(&[("ProductKey", key)]),
            "QueryProductList" => pairs(&[("CurrentPage", "1"), ("PageSize", "10")]),
            "QueryDeviceDetail" | "GetDeviceStatus" | "ListOTAUnfinishedTaskByDevice" => {
                self.device(&device).await;
                pairs(&[("ProductKey", key), ("DeviceName", &device)])
            }
            "GenerateOTAUploadURL" => Pairs::new(),
            "CreateOTAFirmware" => self.package_request().await,
            "QueryOTAFirmware" => pairs(&[("FirmwareId", &self.unverified().await)]),
            "ListOTAFirmware" => {
                self.unverified().await;
                let filter = [("ProductKey", key), ("DestVersion", "2.0.0")];
                [pairs(&filter), pairs(&[("CurrentPage", "1"), ("PageSize", "100")])].concat()
            }
            "CreateOTAVerifyJob" => {
                self.device(&device).await;
                let of = [("FirmwareId", self.unverified().await), ("ProductKey", key.to_owned())];
                let of = of.map(|(name, value)| (name.to_owned(), value));
                [of.to_vec(), pairs(&[("TargetDeviceName.1", &device)])].concat()
            }
            "CreateOTAStaticUpgradeJob" | "PlanOTAJob" => {
                self.device(&device).await;
                self.batch_request(&self.package().await, &device)
            }
            "ListOTAJobByFirmware" => {
                pairs(&[("FirmwareId", &self.unverified().await), ("CurrentPage", "1"), ("PageSize", "10")])
            }
            other => {
                self.device(&device).await;
                self.valid_in_batch(other, &device).await
            }
        }
    }

    /// The same for operations that want a batch in which a device is.
    async fn valid_in_batch(&self, action: &str, device: &str) -> Pairs {
        let firmware = self.package().await;
        let more: &[_] = if action == "ConfirmOTATask" { &[("NeedConfirm", "true")] } else { &[] };
        let job = self.batch(&firmware, device, more).await;
        let of_package = pairs(&[("FirmwareId", &firmware), ("ProductKey", &self.product_key)]);
        match action {
            "QueryOTAJob" | "ListOTATaskByJob" => pairs(&[("JobId", &job)]),
            "ListOTAJobByDevice" => {
                let page = [("DeviceName", device), ("CurrentPage", "1"), ("PageSize", "10")];
                [of_package, pairs(&page)].concat()
            }
            "CancelOTATaskByDevice" => [of_package, pairs(&[("DeviceName.1", device)])].concat(),
            "CancelOTATaskByJob" => pairs(&[("JobId", &job), ("CancelQueuedTask", "true")]),
            "ConfirmOTATask" => pairs(&[("TaskId.1", &self.task(&job).await)]),
            "ListOTATaskHistory" => pairs(&[("TaskId", &self.task(&job).await)]),
            "ExplainOTATask" => {
                let device = [("ProductKey", self.product_key.as_str()), ("DeviceName", device)];
                [pairs(&device), pairs(&[("JobId", &job)])].concat()
            }
            "ReupgradeOTATask" => {
                let cancel = [("JobId", job.as_str()), ("CancelQueuedTask", "true")];
                self.server.ok("CancelOTATaskByJob", &cancel).await;
                pairs(&[("JobId", &job), ("TaskId.1", &self.task(&job).await)])
            }
            other => panic!("nobody knows how to call {other}; add it to Shop::valid"),
        }
    }
}

/// Parameters with some of them replaced or added.
pub fn changed(params: &[(String, String)], changes: &[(&str, &str)]) -> Pairs {
    let kept = params.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    kept.cloned().chain(pairs(changes)).collect()
}

/// Parameters without one.
pub fn without(params: &[(String, String)], name: &str) -> Pairs {
    let below = format!("{name}.");
    params.iter().filter(|(found, _)| found != name && !found.starts_with(&below)).cloned().collect()
}
