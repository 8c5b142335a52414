"use strict";

function xsrfToken() {
  const found = document.cookie.split("; ").find((pair) => pair.startsWith("_xsrf="));
  return found ? found.slice("_xsrf=".length) : "";
}

SwaggerUIBundle({
  url: document.getElementById("docs").dataset.contract,
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null,
  requestInterceptor(request) {
    request.headers["X-XSRFToken"] = xsrfToken();
    return request;
  },
});
