"""Where credentials stand in what gateways report: nobody wants to see them in analytics."""

SENSITIVE_HEADERS = frozenset(
    {
        # never published by WSO2 (carbon-apimgt AnalyticsPayloadUtil.SENSITIVE_HEADERS)
        "authorization",
        "apikey",
        "cookie",
        "set-cookie",
        # and what carries credentials in products that write them: gateways' keys, backend JWTs, cloud and
        # forwarded credentials
        "proxy-authorization",
        "authentication-info",
        "api-key",
        "x-api-key",
        "x-apikey",
        "x-gravitee-api-key",
        "internal-key",
        "x-auth-token",
        "x-access-token",
        "x-csrf-token",
        "x-xsrf-token",
        "x-jwt-assertion",
        "x-goog-iap-jwt-assertion",
        "x-amzn-oidc-data",
        "x-amzn-oidc-accesstoken",
        "x-amz-security-token",
        "x-forwarded-access-token",
        "x-forwarded-client-cert",
        "x-vault-token",
        "ocp-apim-subscription-key",
    }
)
"""Names in lower case. Dialects leave these headers out; ``redact`` masks what comes in another way."""
