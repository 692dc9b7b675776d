"""The decision: which candidate should answer a query. Pure: no Ray, MLflow, vLLM or HTTP."""
