//! The parts of an object: its status alone, its spec alone, and what in each is not modelled.

use std::sync::Arc;

use super::meta::ObjectMeta;
use super::pod::PodTemplate;
use super::residual::{Residual, Step};
use super::{Kind, Object};

impl Object {
    /// Makes an object of a kind with nothing in it.
    pub fn empty(kind: Kind) -> Self {
        match kind {
            Kind::ConfigMap => Self::ConfigMap(Arc::default()),
            Kind::Deployment => Self::Deployment(Arc::default()),
            Kind::Event => Self::Event(Arc::default()),
            Kind::Namespace => Self::Namespace(Arc::default()),
            Kind::Node => Self::Node(Arc::default()),
            Kind::Pod => Self::Pod(Arc::default()),
            Kind::ReplicaSet => Self::ReplicaSet(Arc::default()),
            Kind::Secret => Self::Secret(Arc::default()),
            Kind::Service => Self::Service(Arc::default()),
        }
    }

    /// Returns this object with an empty status.
    pub fn without_status(&self) -> Self {
        self.with_status_of(&Self::empty(self.kind()))
    }

    /// Whether `other` has the same spec (or data): everything but metadata and status.
    pub fn has_spec_of(&self, other: &Self) -> bool {
        let bare = |object: &Self| {
            let mut bare = object.without_status();
            *bare.meta_mut() = ObjectMeta::default();
            bare
        };
        bare(self) == bare(other)
    }

    /// Drops each field that is not modelled for which `keep` returns false; it is given the path of the part and the
    /// path of the field in it.
    pub fn retain_residuals(&mut self, keep: &mut dyn FnMut(&'static str, &[Step]) -> bool) {
        self.each_residual_mut(&mut |part, residual| {
            residual.retain(|path| keep(part, path));
        });
    }

    fn each_residual_mut(&mut self, visit: &mut dyn FnMut(&'static str, &mut Residual)) {
        visit("metadata", &mut self.meta_mut().residual);
        let visit_template = |visit: &mut dyn FnMut(&'static str, &mut Residual),
                              template: &mut PodTemplate| {
            visit("spec.template.metadata", &mut template.metadata.residual);
            visit("spec.template.spec", &mut Arc::make_mut(&mut template.spec).residual);
        };
        match self {
            Self::ConfigMap(object) => visit("", &mut Arc::make_mut(object).residual),
            Self::Deployment(object) => {
                let object = Arc::make_mut(object);
                visit("", &mut object.residual);
                visit_template(visit, &mut object.spec.template);
                visit("spec", &mut object.spec.residual);
                visit("status", &mut object.status.residual);
            }
            Self::Event(object) => visit("", &mut Arc::make_mut(object).residual),
            Self::Namespace(object) => {
                let object = Arc::make_mut(object);
                visit("", &mut object.residual);
                visit("spec", &mut object.spec.residual);
                visit("status", &mut object.status.residual);
            }
            Self::Node(object) => {
                let object = Arc::make_mut(object);
                visit("", &mut object.residual);
                visit("spec", &mut object.spec.residual);
                visit("status", &mut object.status.residual);
            }
            Self::Pod(object) => {
                let object = Arc::make_mut(object);
                visit("", &mut object.residual);
                visit("spec", &mut Arc::make_mut(&mut object.spec).residual);
                visit("status", &mut object.status.residual);
            }
            Self::ReplicaSet(object) => {
                let object = Arc::make_mut(object);
                visit("", &mut object.residual);
                visit_template(visit, &mut object.spec.template);
                visit("spec", &mut object.spec.residual);
                visit("status", &mut object.status.residual);
            }
            Self::Secret(object) => visit("", &mut Arc::make_mut(object).residual),
            Self::Service(object) => {
                let object = Arc::make_mut(object);
                visit("", &mut object.residual);
                visit("spec", &mut object.spec.residual);
                visit("status", &mut object.status.residual);
            }
        }
    }
}
