/* client_cert: x-forwarded-client-cert, by which whoever is behind us learns whom we have verified. */
#pragma once
#include "proxy/downstream.h"
#include "proxy/hcm.h"

/* Of a connection over TLS. Private to client_cert_forward. */
MUST_CHECK int client_cert_forward_tls(struct exchange *x);
/* By the HCM's forward_client_cert_details. A field that the client made up itself goes, unless the configuration
 * trusts it. 0, -ENOMEM or -EINVAL. */
MUST_CHECK static inline int client_cert_forward(struct exchange *x) {
    if (x->downstream->socket.transport)
        return client_cert_forward_tls(x);
    if (x->hcm->config->forward_client_cert_details != CFG_CERT_ALWAYS_FORWARD_ONLY)
        header_remove_id(&x->request.headers, HDR_X_FORWARDED_CLIENT_CERT);
    return 0;
}
