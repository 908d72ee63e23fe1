//! Leases.

use super::errors::{Errors, Path};
use crate::model::{FieldError, LeaseSpec};

pub(super) fn validate(spec: &LeaseSpec, at: &Path<'_>, errors: &mut Errors) {
    if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
        let right = "must be greater than 0";
        errors.push(FieldError::invalid(at.field("leaseDurationSeconds"), seconds, right));
    }
    if let Some(times) = spec.lease_transitions.filter(|times| *times < 0) {
        let right = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(at.field("leaseTransitions"), times, right));
    }
}

#[cfg(test)]
mod tests {
    use crate::model::admit::admit;
    use crate::model::{Lease, LeaseSpec, ObjectMeta};

    #[test]
    fn a_lease_that_never_held_is_refused_field_by_field() {
        let spec = LeaseSpec {
            lease_duration_seconds: Some(0),
            lease_transitions: Some(-1),
            ..LeaseSpec::default()
        };
        let lease = Lease { metadata: ObjectMeta::named("default", "l"), spec, ..Lease::default() };
        let errors = admit(None, lease.into()).expect_err("refused");
        let fields: Vec<_> = errors.iter().map(|error| error.field.clone()).collect();
        assert_eq!(fields, ["spec.leaseDurationSeconds", "spec.leaseTransitions"]);
    }
}
