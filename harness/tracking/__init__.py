"""MLflow: records are delivered, models fetched. Only here MLflow is imported."""
