//! What calls about modules have in common.

use crate::api::error::{ApiError, Code};
use crate::api::params::Params;
use updraft_core::device::DEFAULT_MODULE;
use updraft_core::id::{InstanceNo, ProductNo};
use updraft_core::limits::MODULE_DESC_CHARS_MAX;
use updraft_core::text;
use updraft_store::Tx;

/// A module as a caller names and describes it.
pub struct ModuleRequest {
    product_key: String,
    /// `ModuleName`.
    pub name: String,
    /// `AliasName`.
    pub alias: Option<String>,
    /// `Desc`.
    pub description: Option<String>,
}

impl ModuleRequest {
    /// Reads the parameters.
    pub fn read(params: &Params) -> Result<Self, ApiError> {
        let name = params.need("ModuleName")?;
        if !text::module_name(name) {
            return Err(Code::InvalidModule.into());
        }
        let (alias, description) = (params.text("AliasName"), params.text("Desc"));
        if alias.is_some_and(|alias| !text::module_alias(alias))
            || description.is_some_and(|text| !text::at_most(text, MODULE_DESC_CHARS_MAX))
        {
            return Err(Code::InvalidModuleText.into());
        }
        Ok(Self {
            product_key: params.need("ProductKey")?.to_owned(),
            name: name.to_owned(),
            alias: alias.map(str::to_owned),
            description: description.map(str::to_owned),
        })
    }

    /// The product.
    pub fn product(&self, tx: &mut Tx<'_>, instance: InstanceNo) -> Result<ProductNo, ApiError> {
        let product = tx.product_find(instance, &self.product_key)?;
        Ok(product.ok_or_else(|| ApiError::new(Code::ProductNotFound))?.no)
    }

    /// Refuses the module that every product has.
    pub fn not_default(&self) -> Result<(), ApiError> {
        if self.name == DEFAULT_MODULE { Err(Code::DefaultModule.into()) } else { Ok(()) }
    }
}
