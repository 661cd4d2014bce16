"""Neural networks and heads: values in, values out; no disk beyond installed weights, no MLflow, no clock."""
