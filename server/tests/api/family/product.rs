//! Products and their tags.

use super::{Pairs, Refusals, Shop};
use crate::shop::{pairs, text};

/// What its operations must refuse.
pub const REFUSALS: &[Refusals] = &[
    (
        "CreateProduct",
        &[
            ("CategoryKey", "x*65", "iot.prod.InvalidFormattedCatId"),
            ("ProtocolType", "zwave", "InvalidProtocolType"),
            ("PublishAuto", "perhaps", "InvalidPublishAuto"),
            ("ValidateType", "3", "InvalidValidateType"),
        ],
    ),
    (
        "UpdateProduct",
        &[
            ("Description", "x*101", "iot.prod.LongProductDesc"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("ProductName", "abc", "iot.prod.InvalidFormattedProductName"),
        ],
    ),
    (
        "SetProductDynamicRegister",
        &[
            ("DynamicRegister", "off", "InvalidDynamicRegister"),
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
        ],
    ),
    ("QueryProductDynamicRegister", &[("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct")]),
    ("DeleteProduct", &[("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct")]),
    (
        "CreateProductTags",
        &[
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("ProductTag.1.TagKey", "abc", "iot.prod.InvalidProductTag"),
            ("ProductTag.1.TagKey", "a b", "iot.prod.InvalidProductTag"),
            ("ProductTag.1.TagValue", "1.0", "iot.prod.InvalidProductTag"),
            ("ProductTag.2.TagKey", "without a value", "MissingProductTag"),
        ],
    ),
    (
        "UpdateProductTags",
        &[
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("ProductTag.1.TagKey", "unknown", "iot.prod.NotExistedProductTag"),
            ("ProductTag.1.TagValue", "1.0", "iot.prod.InvalidProductTag"),
            ("ProductTag.3.TagKey", "gap", "InvalidProductTag"),
        ],
    ),
    (
        "DeleteProductTags",
        &[
            ("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct"),
            ("ProductTagKey.1", "a b", "iot.prod.InvalidProductTag"),
            ("ProductTagKey.3", "gap", "InvalidProductTagKey"),
        ],
    ),
    ("ListProductTags", &[("ProductKey", "a1Unknown00", "iot.prod.NotExistedProduct")]),
    (
        "ListProductByTags",
        &[
            ("CurrentPage", "0", "iot.common.InvalidPageParams"),
            ("PageSize", "51", "iot.common.InvalidPageParams"),
            ("ProductTag.2.TagValue", "without a key", "MissingProductTag"),
        ],
    ),
];

/// A product of its own; answers what names it.
async fn product(shop: &Shop<'_>) -> Pairs {
    let product = pairs(&[("ProductName", &shop.name("product")), ("NodeType", "0")]);
    let made = shop.server.ok("CreateProduct", &product).await;
    pairs(&[("ProductKey", &text(&made, "/ProductKey"))])
}

/// Parameters with which an operation succeeds, on things made for this call only; `None`: not of this family.
pub async fn valid(shop: &Shop<'_>, action: &str, _device: &str) -> Option<Pairs> {
    let tag = pairs(&[("ProductTag.1.TagKey", "colour"), ("ProductTag.1.TagValue", &shop.name("value"))]);
    match action {
        "UpdateProduct" => {
            let changed = [("ProductName", &*shop.name("renamed")), ("Description", &shop.name("text"))];
            Some([product(shop).await, pairs(&changed)].concat())
        }
        "DeleteProduct" | "QueryProductDynamicRegister" => Some(product(shop).await),
        "SetProductDynamicRegister" => {
            Some([product(shop).await, pairs(&[("DynamicRegister", "PREREGISTERED")])].concat())
        }
        "CreateProductTags" => Some([product(shop).await, tag].concat()),
        "UpdateProductTags" | "DeleteProductTags" | "ListProductTags" | "ListProductByTags" => {
            let named = product(shop).await;
            let tagged = [named.clone(), tag.clone()].concat();
            shop.server.ok("CreateProductTags", &tagged).await;
            Some(match action {
                "UpdateProductTags" => crate::shop::changed(&tagged, &[("ProductTag.1.TagValue", "other")]),
                "DeleteProductTags" => [named, pairs(&[("ProductTagKey.1", "colour")])].concat(),
                "ListProductTags" => named,
                _ => tag,
            })
        }
        _ => None,
    }
}
