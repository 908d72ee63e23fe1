//! Every example runs and says what it should; those with tests of their own are tested; the manifests are valid.

mod documents;
mod manifests;
mod run;

#[path = "../custom_controller.rs"]
#[allow(dead_code)]
mod custom_controller;
#[path = "../custom_scheduler.rs"]
#[allow(dead_code)]
mod custom_scheduler;
