"""Operating the proxy: dashboards and alerts, tried with a real Prometheus."""
