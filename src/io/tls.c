#include "io/tls.h"

#include "base/file.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>

#define DAY_SECONDS (24L * 3600)
#define CA_DAYS 3650
#define SERVER_DAYS 365
#define RENEW_BEFORE_DAYS 30

/* "<what>: <OpenSSL's reason>", and OpenSSL's queue is empty afterwards. */
static int fail(struct error *err, const char *what) {
    char reason[256] = "unknown reason";
    unsigned long number = ERR_get_error();
    if (number != 0) {
        ERR_error_string_n(number, reason, sizeof(reason));
    }
    ERR_clear_error();
    return error_set(err, ERROR_IO, "%s: %s", what, reason);
}

/* ---- server contexts ---- */

static int select_http_1_1(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len,
                           void *arg) {
    (void)ssl;
    (void)arg;
    static const unsigned char protocols[] = "\x08http/1.1";
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, out_len, protocols, sizeof(protocols) - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

struct ssl_ctx_st *tls_server_context(const char *cert_file, const char *key_file, struct error *err) {
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL) {
        fail(err, "TLS context");
        return NULL;
    }
    (void)SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    (void)SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* libevent repeats a write that would have blocked from its buffer, whose bytes may have moved meanwhile. */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_alpn_select_cb(context, select_http_1_1, NULL);
    if (SSL_CTX_use_certificate_chain_file(context, cert_file) != 1) {
        fail(err, cert_file);
    } else if (SSL_CTX_use_PrivateKey_file(context, key_file, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(context) != 1) {
        fail(err, key_file);
    } else {
        return context;
    }
    SSL_CTX_free(context);
    return NULL;
}

void tls_context_free(struct ssl_ctx_st *context) {
    SSL_CTX_free(context);
}

/* ---- certificates ---- */

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
};

static void identity_release(struct identity *identity) {
    EVP_PKEY_free(identity->key);
    X509_free(identity->certificate);
}

static int add_extension(X509 *certificate, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    int ok = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok ? 0 : -1;
}

static int set_serial(X509 *certificate) {
    unsigned char bytes[16];
    if (RAND_bytes(bytes, sizeof(bytes)) != 1) {
        return -1;
    }
    bytes[0] &= 0x7f;
    BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    int ok = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return ok ? 0 : -1;
}

/* A key and an unsigned certificate for it. */
static int make_identity(const char *common_name, long days, struct identity *identity) {
    identity->key = EVP_EC_gen("P-256");
    identity->certificate = X509_new();
    if (identity->key == NULL || identity->certificate == NULL) {
        return -1;
    }
    X509 *certificate = identity->certificate;
    X509_NAME *name = X509_get_subject_name(certificate);
    return X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) == 0 &&
                   X509_gmtime_adj(X509_getm_notBefore(certificate), -300) != NULL &&
                   X509_gmtime_adj(X509_getm_notAfter(certificate), days * DAY_SECONDS) != NULL &&
                   X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0) == 1 &&
                   X509_set_pubkey(certificate, identity->key) == 1
               ? 0
               : -1;
}

static int sign(struct identity *identity, const struct identity *issuer) {
    return X509_set_issuer_name(identity->certificate, X509_get_subject_name(issuer->certificate)) == 1 &&
                   X509_sign(identity->certificate, issuer->key, EVP_sha256()) > 0
               ? 0
               : -1;
}

static int make_ca(struct identity *ca) {
    return make_identity("davit-ca", CA_DAYS, ca) == 0 &&
                   add_extension(ca->certificate, ca->certificate, NID_basic_constraints, "critical,CA:TRUE") == 0 &&
                   add_extension(ca->certificate, ca->certificate, NID_key_usage, "critical,keyCertSign,cRLSign") == 0 &&
                   add_extension(ca->certificate, ca->certificate, NID_subject_key_identifier, "hash") == 0 && sign(ca, ca) == 0
               ? 0
               : -1;
}

static bool is_address(const char *name) {
    unsigned char bytes[16];
    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

static int make_server(const struct identity *ca, const char *const *names, struct identity *server) {
    cleanup_buffer struct buffer alternatives = BUFFER_INIT;
    for (size_t i = 0; names[i] != NULL; i++) {
        buffer_printf(&alternatives, "%s%s:%s", i != 0 ? "," : "", is_address(names[i]) ? "IP" : "DNS", names[i]);
    }
    return make_identity("davit", SERVER_DAYS, server) == 0 &&
                   add_extension(server->certificate, ca->certificate, NID_basic_constraints, "critical,CA:FALSE") == 0 &&
                   add_extension(server->certificate, ca->certificate, NID_key_usage, "critical,digitalSignature") == 0 &&
                   add_extension(server->certificate, ca->certificate, NID_ext_key_usage, "serverAuth") == 0 &&
                   add_extension(server->certificate, ca->certificate, NID_subject_alt_name, buffer_text(&alternatives)) == 0 &&
                   add_extension(server->certificate, ca->certificate, NID_authority_key_identifier, "keyid") == 0 &&
                   sign(server, ca) == 0
               ? 0
               : -1;
}

static int write_pem(const char *folder, const char *name, const struct identity *identity, bool is_key, struct error *err) {
    cleanup_free char *path = path_join(folder, name);
    BIO *memory = BIO_new(BIO_s_mem());
    int ok = memory != NULL && (is_key ? PEM_write_bio_PrivateKey(memory, identity->key, NULL, NULL, 0, NULL, NULL)
                                       : PEM_write_bio_X509(memory, identity->certificate)) == 1;
    char *text = NULL;
    long len = ok ? BIO_get_mem_data(memory, &text) : 0;
    int result = ok ? file_replace(path, text, (size_t)len, is_key ? 0600 : 0644, err) : fail(err, path);
    BIO_free(memory);
    return result;
}

static X509 *read_certificate(const char *folder, const char *name) {
    cleanup_free char *path = path_join(folder, name);
    cleanup_buffer struct buffer text = BUFFER_INIT;
    if (file_read(path, 64 * 1024, &text, NULL) < 0) {
        return NULL;
    }
    BIO *memory = BIO_new_mem_buf(text.data, (int)text.len);
    X509 *certificate = memory != NULL ? PEM_read_bio_X509(memory, NULL, NULL, NULL) : NULL;
    BIO_free(memory);
    ERR_clear_error();
    return certificate;
}

static bool is_fresh(const X509 *certificate) {
    time_t soon = time(NULL) + RENEW_BEFORE_DAYS * DAY_SECONDS;
    return X509_cmp_time(X509_get0_notAfter(certificate), &soon) > 0;
}

static bool has_names(X509 *certificate, const char *const *names) {
    for (size_t i = 0; names[i] != NULL; i++) {
        bool matches = is_address(names[i]) ? X509_check_ip_asc(certificate, names[i], 0) == 1
                                            : X509_check_host(certificate, names[i], 0, 0, NULL) == 1;
        if (!matches) {
            return false;
        }
    }
    return true;
}

static bool has_private_file(const char *folder, const char *name) {
    cleanup_free char *path = path_join(folder, name);
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && (info.st_mode & 077) == 0;
}

static bool is_complete(const char *folder, const char *const *names) {
    X509 *ca = read_certificate(folder, "ca.crt");
    X509 *server = read_certificate(folder, "server.crt");
    bool complete = ca != NULL && server != NULL && is_fresh(ca) && is_fresh(server) && has_names(server, names) &&
                    X509_verify(server, X509_get0_pubkey(ca)) == 1 && has_private_file(folder, "ca.key") &&
                    has_private_file(folder, "server.key");
    X509_free(ca);
    X509_free(server);
    ERR_clear_error();
    return complete;
}

/* The authority of an earlier call, so that clients which trust it go on doing so when the server's certificate is renewed. */
static int read_ca(const char *folder, struct identity *ca) {
    cleanup_free char *path = path_join(folder, "ca.key");
    cleanup_buffer struct buffer text = BUFFER_INIT;
    ca->certificate = read_certificate(folder, "ca.crt");
    if (ca->certificate == NULL || !is_fresh(ca->certificate) || !has_private_file(folder, "ca.key") ||
        file_read(path, 64 * 1024, &text, NULL) < 0) {
        return -1;
    }
    BIO *memory = BIO_new_mem_buf(text.data, (int)text.len);
    ca->key = memory != NULL ? PEM_read_bio_PrivateKey(memory, NULL, NULL, NULL) : NULL;
    BIO_free(memory);
    OPENSSL_cleanse(text.data, text.len);
    bool is_pair = ca->key != NULL && X509_check_private_key(ca->certificate, ca->key) == 1;
    ERR_clear_error();
    return is_pair ? 0 : -1;
}

static int read_or_make_ca(const char *folder, struct identity *ca, bool *ret_is_new) {
    *ret_is_new = false;
    if (read_ca(folder, ca) == 0) {
        return 0;
    }
    identity_release(ca);
    *ca = (struct identity){0};
    *ret_is_new = true;
    return make_ca(ca);
}

int tls_make_certificates(const char *folder, const char *const *names, struct error *err) {
    if (is_complete(folder, names)) {
        return 0;
    }
    struct identity ca = {0};
    struct identity server = {0};
    bool is_new_ca = false;
    int result = -1;
    if (read_or_make_ca(folder, &ca, &is_new_ca) < 0 || make_server(&ca, names, &server) < 0) {
        fail(err, "making certificates");
    } else if (file_make_dirs(folder, 0700, err) == 0 &&
               (!is_new_ca ||
                (write_pem(folder, "ca.crt", &ca, false, err) == 0 && write_pem(folder, "ca.key", &ca, true, err) == 0)) &&
               write_pem(folder, "server.crt", &server, false, err) == 0 &&
               write_pem(folder, "server.key", &server, true, err) == 0) {
        result = 0;
    }
    identity_release(&ca);
    identity_release(&server);
    return result;
}
