"""What people do with a study: plan, extend, check and delete it."""
