//! The story's part about products and their tags.

use super::Story;

/// What refusals of tags have.
pub const REFUSED_TAGS: [&str; 2] =
    ["InvalidProductTags.ProductTag[].TagKey", "InvalidProductTags.ProductTag[].TagValue"];

/// A product comes, changes, is found and goes.
pub async fn tell(story: &mut Story) {
    let wanted = [
        ("ProductName", "meters"),
        ("NodeType", "0"),
        ("ProtocolType", "modbus"),
        ("CategoryKey", "WaterMeter"),
        ("PublishAuto", "true"),
        ("ValidateType", "2"),
    ];
    let made = story.call("CreateProduct", &wanted).await;
    let key = made.text("ProductKey").to_owned();
    let named = ("ProductKey", key.as_str());
    story.call("QueryProduct", &[named]).await;
    story.call("UpdateProduct", &[named, ("ProductName", "水表"), ("Description", "<wet> & cold")]).await;
    let tags = [
        named,
        ("ProductTag.1.TagKey", "room"),
        ("ProductTag.1.TagValue", "大厅-1"),
        ("ProductTag.2.TagKey", "made.in"),
        ("ProductTag.2.TagValue", "2019"),
    ];
    story.call("CreateProductTags", &tags).await;
    story.call("UpdateProductTags", &[named, tags[1], ("ProductTag.1.TagValue", "cellar")]).await;
    story.call("ListProductTags", &[named]).await;
    story.call("ListProductByTags", &tags[1..]).await;
    story.call("DeleteProductTags", &[named, ("ProductTagKey.1", "room")]).await;
    story.call("SetProductDynamicRegister", &[named, ("DynamicRegister", "ANY")]).await;
    story.call("QueryProductDynamicRegister", &[named]).await;
    story.call("DeleteProduct", &[named]).await;
}
