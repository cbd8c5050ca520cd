//! Tickets for form uploads, as the operations that give them answer.

use crate::api::Call;
use crate::api::answer::Object;
use crate::api::error::{ApiError, Code};
use crate::files::reserve;
use updraft_core::id;
use updraft_store::Lane;

/// What an upload is for.
pub struct Upload<'a> {
    /// The first part of its key.
    pub folder: &'static str,
    /// The end of its key, without the dot.
    pub suffix: &'a str,
    /// Most bytes that it may have.
    pub bytes_max: i64,
    /// What the answer calls the id that signs the form.
    pub id_field: &'static str,
    /// What the answer calls the file's address.
    pub address_field: &'static str,
}

/// Notes a new ticket and answers with it.
pub async fn give(call: &Call, upload: Upload<'_>) -> Result<Object, ApiError> {
    let app = &call.app;
    reserve::room_for(app, 0).map_err(|why| ApiError::with(Code::InsufficientStorage, why.to_string()))?;
    let object_key = format!(
        "{}/{}/{}.{}",
        upload.folder,
        hex::encode(app.random.bytes::<16>("object_key")),
        id::alphanumeric(&app.random.bytes::<20>("object_key")),
        upload.suffix,
    );
    let (instance, now, stored) = (call.instance, app.now(), object_key.clone());
    app.store
        .write(Lane::Interactive, move |tx| {
            tx.file_ticket_insert(instance, &stored, now).map_err(ApiError::from)
        })
        .await?;
    let ticket = app.addresses.upload_ticket(&object_key, upload.bytes_max, now);
    let data = Object::new()
        .text("Key", &object_key)
        .text("Host", &call.base)
        .text("Policy", ticket.policy)
        .text(upload.id_field, ticket.access_key_id)
        .text("Signature", ticket.signature)
        .text(upload.address_field, format!("{}/{object_key}", call.base))
        .text("ObjectStorage", "OSS")
        .utc("UtcCreate", now);
    Ok(Object::new().object("Data", data))
}
