"""Where Sluice differs from Envoy on purpose, case by case.

A case named here must differ in exactly the response fields listed and in nothing else; when it no
longer does, the test fails and the row goes.
"""

CLOSE = ("connection", "close")
REST_AT_HAND = (
    "Envoy answers before it looks at the body and so ends the connection; here the body has arrived "
    "with the head, is dropped, and the connection goes on"
)

# name -> (fields only Envoy sends, fields only Sluice sends, why)
DIFFERENCES = {
    "direct-post": ([CLOSE], [], REST_AT_HAND),
    "grpc-no-route": ([CLOSE], [], REST_AT_HAND),
}
