//! Images: when a container's image is pulled.
//!
//! Depends on `model` only.

use crate::model::{Container, ImagePullPolicy};

/// Returns the pull policy of a container: what its spec says, or Kubernetes' default (`Always` for the tag
/// `latest` or none, else `IfNotPresent`).
pub fn pull_policy(container: &Container) -> ImagePullPolicy {
    container.image_pull_policy.unwrap_or_else(|| {
        if is_latest(&container.image) {
            ImagePullPolicy::Always
        } else {
            ImagePullPolicy::IfNotPresent
        }
    })
}

/// Whether an image reference names no fixed version. A colon before the last slash is a registry's port.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_without_a_fixed_version_are_pulled_always() {
        let check = |image: &str, expected| {
            assert_eq!(pull_policy(&Container::new("main", image)), expected, "{image}");
        };
        check("nginx", ImagePullPolicy::Always);
        check("nginx:latest", ImagePullPolicy::Always);
        check("registry:5000/nginx", ImagePullPolicy::Always);
        check("nginx:1.27", ImagePullPolicy::IfNotPresent);
        check("registry:5000/nginx:1.27", ImagePullPolicy::IfNotPresent);
        check("nginx@sha256:0123", ImagePullPolicy::IfNotPresent);
    }

    #[test]
    fn a_policy_in_the_spec_wins() {
        let container = Container {
            image_pull_policy: Some(ImagePullPolicy::Never),
            ..Container::new("main", "nginx")
        };
        assert_eq!(pull_policy(&container), ImagePullPolicy::Never);
    }
}
