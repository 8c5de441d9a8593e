"""What people and continuous integration call: deploy, preview, destroy, record, drift, adopt."""
