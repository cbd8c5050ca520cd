//! The API, black box: signed requests go through `Http::answer`, without sockets.
//!
//! What an operation must accept and answer is not written here: the tests enumerate
//! `docs/api/operations.json`, so an operation without a test fails the build.

#[path = "api/acs3.rs"]
mod acs3;
#[path = "api/attempts.rs"]
mod attempts;
#[path = "api/audit.rs"]
mod audit;
#[path = "api/catalogue.rs"]
mod catalogue;
#[path = "api/certificates.rs"]
mod certificates;
#[path = "api/deletions.rs"]
mod deletions;
#[path = "api/devices.rs"]
mod devices;
#[path = "api/dynamic.rs"]
mod dynamic;
#[path = "api/dynamic_by_group.rs"]
mod dynamic_by_group;
#[path = "api/dynamic_groups.rs"]
mod dynamic_groups;
#[path = "api/dynamic_register.rs"]
mod dynamic_register;
#[path = "api/enumeration.rs"]
mod enumeration;
#[path = "api/explain.rs"]
mod explain;
#[path = "api/family/mod.rs"]
mod family;
#[path = "api/files.rs"]
mod files;
#[path = "api/gateway.rs"]
mod gateway;
#[path = "api/groups.rs"]
mod groups;
#[path = "api/history.rs"]
mod history;
#[path = "api/http_channel.rs"]
mod http_channel;
#[path = "api/job_update.rs"]
mod job_update;
#[path = "api/lifecycle.rs"]
mod lifecycle;
#[path = "api/limits.rs"]
mod limits;
#[path = "api/list_files.rs"]
mod list_files;
#[path = "api/list_jobs.rs"]
mod list_jobs;
#[path = "api/modules.rs"]
mod modules;
#[path = "api/mqtt_downloads.rs"]
mod mqtt_downloads;
#[path = "api/nodes.rs"]
mod nodes;
#[path = "api/object_store.rs"]
mod object_store_files;
#[path = "api/overwrite.rs"]
mod overwrite;
#[path = "api/packages.rs"]
mod packages;
#[path = "api/pages.rs"]
mod pages;
#[path = "api/plan.rs"]
mod plan;
#[path = "api/policies.rs"]
mod policies;
#[path = "api/products.rs"]
mod products;
#[path = "api/registration.rs"]
mod registration;
#[path = "api/rollout.rs"]
mod rollout;
#[path = "api/rules.rs"]
mod rules;
#[path = "api/server.rs"]
mod server;
#[path = "api/shop.rs"]
mod shop;
#[path = "api/states.rs"]
mod states;
#[path = "api/story.rs"]
mod story;
#[path = "api/sts.rs"]
mod sts;
#[path = "api/tenancy.rs"]
mod tenancy;
#[path = "api/topology.rs"]
mod topology;
#[path = "api/tree.rs"]
mod tree;
