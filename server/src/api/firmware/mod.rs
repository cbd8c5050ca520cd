//! Update packages and their files.

pub mod create_ota_firmware;
pub mod delete_ota_firmware;
pub mod generate_ota_upload_url;
pub mod list_ota_firmware;
pub mod modify_ota_firmware;
pub mod query_ota_firmware;
