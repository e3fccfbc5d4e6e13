"""One configuration and one seed become records, without Ray and MLflow."""
