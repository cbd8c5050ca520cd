//! The store's suite: every case runs on both engines, as `sqlite::name` and `postgres::name`.
//!
//! A case is a function that takes a fresh [`updraft_store::Store`], or an [`engine::Engine`] if it opens the
//! store itself. To add one, write it in the file of its table and name it in that file's list: the compiler
//! warns of a case that is in no list.

mod account;
mod apply;
mod browse;
mod certificate;
mod connections;
mod count;
mod device;
mod device_count;
mod device_life;
mod device_tag;
mod engine;
mod explain;
mod file;
mod firmware;
mod group;
mod group_dynamic;
mod harness;
mod health;
mod help;
mod job;
mod job_list;
mod job_update;
mod look;
mod migration;
mod module;
mod node;
mod parity;
mod plan;
mod policy;
mod postgres_tls;
mod private_postgres;
mod product;
mod registration;
mod shop;
mod sts_key;
mod survey;
mod task;
mod task_history;
mod topo;
mod transfer;
mod value;
mod writer;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cases = [
        account::CASES,
        sts_key::CASES,
        browse::CASES,
        policy::CASES,
        product::CASES,
        registration::CASES,
        apply::CASES,
        device::CASES,
        device_count::CASES,
        device_tag::CASES,
        device_life::CASES,
        topo::CASES,
        certificate::CASES,
        file::CASES,
        firmware::CASES,
        group::CASES,
        group_dynamic::CASES,
        module::CASES,
        node::CASES,
        job::CASES,
        job_list::CASES,
        job_update::CASES,
        count::CASES,
        look::CASES,
        task::CASES,
        task_history::CASES,
        survey::CASES,
        explain::CASES,
        value::CASES,
        writer::CASES,
        parity::CASES,
        plan::CASES,
        transfer::CASES,
        health::CASES,
        migration::CASES,
        postgres_tls::CASES,
        connections::CASES,
    ];
    harness::run(&cases.concat())
}
