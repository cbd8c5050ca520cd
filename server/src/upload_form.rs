//! The form in which a file is uploaded with a ticket, as clients of ours send it; `files/upload.rs` is the other side.

use anyhow::Context as _;
use serde_json::Value;

const BOUNDARY: &str = "updraft-upload-boundary";

/// A form that is ready to be posted.
pub struct UploadForm {
    /// Its `Content-Type`.
    pub content_type: String,
    /// Its bytes.
    pub body: Vec<u8>,
}

impl UploadForm {
    /// The form for a file of this name, by the `Data` of GenerateOTAUploadURL or GenerateDeviceNameListURL.
    ///
    /// # Errors
    /// When the ticket lacks a field.
    pub fn new(ticket: &Value, name: &str, file: &[u8]) -> anyhow::Result<Self> {
        let field = |of: &[&str]| {
            let found = of.iter().find_map(|name| ticket[*name].as_str());
            found.with_context(|| format!("the ticket has no {}", of[0]))
        };
        let mut body = Vec::new();
        for (name, value) in [
            ("key", field(&["Key"])?),
            ("policy", field(&["Policy"])?),
            // A ticket for a list has another name for it.
            ("OSSAccessKeyId", field(&["OSSAccessKeyId", "AccessKeyId"])?),
            ("signature", field(&["Signature"])?),
        ] {
            let part =
                format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend_from_slice(part.as_bytes());
        }
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(file);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        Ok(Self { content_type: format!("multipart/form-data; boundary={BOUNDARY}"), body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_ticket_of_either_kind_makes_a_form_and_half_a_ticket_none() {
        for name in ["OSSAccessKeyId", "AccessKeyId"] {
            let ticket = json!({ "Key": "k", "Policy": "p", name: "id", "Signature": "s" });
            let form = UploadForm::new(&ticket, "f.bin", b"\0\r\n--").unwrap();
            let text = String::from_utf8(form.body).unwrap();
            assert!(text.contains("name=\"OSSAccessKeyId\"\r\n\r\nid\r\n"), "{text}");
            assert!(text.ends_with("filename=\"f.bin\"\r\n\r\n\0\r\n--\r\n--updraft-upload-boundary--\r\n"));
        }
        let half = UploadForm::new(&json!({ "Key": "k" }), "f.bin", b"").err().unwrap().to_string();
        assert!(half.contains("Policy"), "{half}");
    }
}
