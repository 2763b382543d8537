/* ClientHellos: what is read of them, whole, byte by byte and in records of every size; and what is refused, with
 * BoringSSL's verdict (asked of Envoy 1.40), but for those in `not_as_envoy`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "hello_story.h"
#include "io/client_hello.h"
#include "prefix_story.h"

#define MORE CLIENT_HELLO_MORE
#define DONE CLIENT_HELLO_DONE
#define NONE CLIENT_HELLO_NONE

/* What `openssl s_client -servername a.test -alpn h2,http/1.1` of OpenSSL 3.0 sends, without its padding. */
static const char of_openssl[] =
    "1603010118010001140303"
    "0384d97ceff4e41d9edb86d2925e926c64b6233feea28f326ed4b569f76c280c"
    "20a878f518ba8e1e04bac373bd220ca4375911ea3778ca941590cb7e7715ef81b1"
    "0024130213031301c02cc030c02bc02fcca9cca8c024c028c023c027009f009e006b006700ff0100"
    "00a7"
    "0000000b0009000006612e74657374"
    "000b000403000102"
    "000a00160014001d0017001e0019001801000101010201030104"
    "00230000"
    "0010000e000c02683208687474702f312e31"
    "00160000"
    "00170000"
    "000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602"
    "002b00050403040303"
    "002d00020101"
    "003300260024001d0020ef617c3441c4465ebfacecdc91a6c72b9c7bfe507fd1505d1d8616ed7e0a1d4e";

static size_t from_hex(const char *hex, uint8_t *out) {
    size_t len = 0;
    for (unsigned byte; sscanf(hex, "%2x", &byte) == 1; hex += 2)
        out[len++] = (uint8_t)byte;
    return len;
}

static struct span read_openssl(void) {
    static uint8_t bytes[sizeof of_openssl / 2];
    size_t len = from_hex(of_openssl, bytes);
    bytes[3] = (uint8_t)((len - 5) >> 8); /* the lengths that the hex leaves to us */
    bytes[4] = (uint8_t)(len - 5);
    bytes[7] = (uint8_t)((len - 9) >> 8);
    bytes[8] = (uint8_t)(len - 9);
    size_t list = 9 + 2 + 32 + 33 + 38 + 2;
    bytes[list] = (uint8_t)((len - list - 2) >> 8);
    bytes[list + 1] = (uint8_t)(len - list - 2);
    return span_make(bytes, len);
}

static int judge(struct span prefix) {
    struct client_hello hello;
    return (int)client_hello_read(prefix, &hello);
}

/* "name: protocol protocol" */
static const char *describe(struct span bytes) {
    static char text[2048];
    struct client_hello hello;
    if (client_hello_read(at_guard_page(bytes), &hello) != DONE)
        return "none";
    int len = snprintf(text, sizeof text, "%x %x %.*s:", hello.legacy_version, hello.version,
                       hello.server_name_len, hello.server_name);
    char name[CLIENT_HELLO_NAME_MAX];
    struct client_hello_part rest = hello.protocols;
    for (size_t n; (n = client_hello_next_protocol(&rest, name)) > 0;)
        len += snprintf(text + len, sizeof text - (size_t)len, " %.*s", (int)n, name);
    return text;
}

static void what_openssl_sends(void **state) {
    struct span bytes = read_openssl();
    struct client_hello hello;
    size_t decided;
    assert_int_equal(verdict_bytewise(judge, MORE, bytes, &decided), DONE);
    assert_int_equal(decided, bytes.len);
    assert_int_equal(client_hello_read(bytes, &hello), DONE);
    assert_string_equal(describe(bytes), "303 304 a.test: h2 http/1.1");
    assert_int_equal(hello.cipher_count, 18);
    assert_int_equal(hello.extension_count, 11);
    assert_int_equal(hello.wire_bytes, bytes.len);
    assert_true(hello.has_protocols);
    assert_true(hello.has_supported_versions);
    assert_false(hello.has_grease);
    assert_false(hello.has_ech);
}

static void bytes_behind_it_do_not_matter(void **state) {
    struct span hello = read_openssl();
    struct hello_bytes *more = calloc(1, sizeof *more);
    put(more, hello.ptr, hello.len);
    put(more, "\x14\x03\x03\x00\x01\x01 early data", 17);
    assert_string_equal(describe(span_make(more->bytes, more->len)), "303 304 a.test: h2 http/1.1");
    free(more);
}

/* From a record for each byte to one for all: whatever lies across two of them is read. */
static void records_of_every_size(void **state) {
    struct span whole = read_openssl(), message = span_from(whole, 5);
    struct hello_bytes *cut = calloc(1, sizeof *cut);
    for (size_t size = 1; size <= message.len; size++) {
        size_t decided;
        cut->len = 0;
        put_records(cut, message, size);
        struct span bytes = span_make(cut->bytes, cut->len);
        assert_string_equal(describe(bytes), "303 304 a.test: h2 http/1.1");
        if (size > 8 && size % 37 != 0)
            continue; /* byte by byte, a few of them */
        assert_int_equal(verdict_bytewise(judge, MORE, bytes, &decided), DONE);
        assert_int_equal(decided, bytes.len);
    }
    free(cut);
}

static void empty_records_in_between(void **state) {
    struct span whole = read_openssl(), message = span_from(whole, 5);
    struct hello_bytes *cut = calloc(1, sizeof *cut);
    put(cut, "\x16\x03\x01\0\0\x16\x03\x01\0\0", 10);
    put_records(cut, span_make(message.ptr, 100), 100);
    put(cut, "\x16\x03\x01\0\0", 5);
    put_records(cut, span_from(message, 100), 4000);
    assert_string_equal(describe(span_make(cut->bytes, cut->len)), "303 304 a.test: h2 http/1.1");
    cut->len = 0; /* but not for ever */
    for (int i = 0; i < 33; i++)
        put(cut, "\x16\x03\x01\0\0", 5);
    assert_int_equal(judge(span_make(cut->bytes, 32 * 5)), MORE);
    assert_int_equal(judge(span_make(cut->bytes, 33 * 5)), NONE);
    free(cut);
}

/* ---- made to order ---- */

static struct hello_bytes extensions, message, records;

static void begin(void) {
    extensions.len = message.len = records.len = 0;
}

static struct span make(struct hello_order order) {
    put_message(&message, &order);
    put_records(&records, span_make(message.bytes, message.len), 16384);
    return span_make(records.bytes, records.len);
}

static const char *told(struct hello_order order) {
    struct span bytes = make(order);
    size_t decided;
    int verdict = verdict_bytewise(judge, MORE, bytes, &decided);
    assert_int_not_equal(verdict, -1);
    assert_int_not_equal(verdict, MORE);
    return describe(bytes);
}

static const char *with_extension(unsigned version, unsigned type, struct span content) {
    begin();
    put_extension(&extensions, type, content);
    return told((struct hello_order){.version = version, .extensions = &extensions});
}
#define WITH(type, content) with_extension(0, type, SPAN_LIT(content))
static const char *of_version(unsigned version) {
    begin();
    return told((struct hello_order){.version = version});
}

static void versions(void **state) {
    assert_string_equal(of_version(0x0303), "303 303 :");
    assert_string_equal(of_version(0x0302), "302 302 :");
    assert_string_equal(of_version(0x0301), "301 301 :");
    assert_string_equal(of_version(0x0304), "304 303 :");
    assert_string_equal(of_version(0x0300), "none");
    assert_string_equal(of_version(0x0305), "none");
    assert_string_equal(WITH(43, "\4\3\4\3\3"), "303 304 :");
    assert_string_equal(WITH(43, "\4\3\3\x0a\x0a"), "303 303 :"); /* GREASE is higher, and none */
    assert_string_equal(WITH(43, "\2\3\0"),
                        "303 0 :"); /* what nobody has is the server's to refuse */
    assert_string_equal(WITH(43, "\2\3\5"), "303 0 :");
    assert_string_equal(WITH(43, "\0"), "303 303 :"); /* malformed: as if it were not there */
    assert_string_equal(WITH(43, "\3\3\4\3"), "303 303 :");
    assert_string_equal(WITH(43, "\2\3\4\3"), "303 303 :");
    assert_string_equal(WITH(43, "\4\3\4"), "303 303 :");
}

static void server_names(void **state) {
    static char longest[CLIENT_HELLO_NAME_MAX + 1];
    memset(longest, 'A', sizeof longest);
    begin();
    put_server_name(&extensions, SPAN_LIT("Www.EXAMPLE.com"));
    assert_string_equal(told((struct hello_order){.extensions = &extensions}),
                        "303 303 www.example.com:");
    begin();
    put_server_name(&extensions, span_make(longest, CLIENT_HELLO_NAME_MAX));
    const char *text = told((struct hello_order){.extensions = &extensions});
    assert_int_equal(strlen(text), strlen("303 303 :") + CLIENT_HELLO_NAME_MAX);
    assert_int_equal(text[8], 'a');
    begin();
    put_server_name(&extensions, span_make(longest, sizeof longest));
    assert_string_equal(told((struct hello_order){.extensions = &extensions}), "none");
    begin();
    put_server_name(&extensions, SPAN_LIT(""));
    assert_string_equal(told((struct hello_order){.extensions = &extensions}), "none");
    begin();
    put_server_name(&extensions, SPAN_LIT("a\0b"));
    assert_string_equal(told((struct hello_order){.extensions = &extensions}), "none");
    assert_string_equal(WITH(0, "\0\4\1\0\1a"), "none");          /* not a host name */
    assert_string_equal(WITH(0, "\0\4\0\0\1a!"), "none");         /* more behind the list */
    assert_string_equal(WITH(0, "\0\5\0\0\1a!"), "none");         /* in the list */
    assert_string_equal(WITH(0, "\0\4\0\0\2a"), "none");          /* a name longer than its list */
    assert_string_equal(WITH(0, "\0\x09\0\0\1a\0\0\1b"), "none"); /* two */
    assert_string_equal(WITH(0, ""), "none");
}

static void protocols(void **state) {
    struct client_hello hello;
    assert_string_equal(WITH(16, "\0\3\2h2"), "303 303 : h2");
    assert_string_equal(WITH(16, "\0\4\1a\1b"), "303 303 : a b");
    /* Malformed ones are the server's business. */
    static const struct span malformed[] = {
        SPAN_INIT(""),
        SPAN_INIT("\0\0"),
        SPAN_INIT("\0\1\0"),
        SPAN_INIT("\0\4\2h2\0"),
        SPAN_INIT("\0\3\3h2"),
        SPAN_INIT("\0\3\2h2x"),
        SPAN_INIT("\0\5\2h2\2x"),
    };
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        assert_string_equal(with_extension(0, 16, malformed[i]), "303 303 :");
        assert_int_equal(client_hello_read(span_make(records.bytes, records.len), &hello), DONE);
        assert_false(hello.has_protocols);
    }
}

/* The rest of them is for the server to judge. */
static void encrypted_hellos(void **state) {
    assert_string_equal(WITH(0xfe0d, "\0\0\1\0\1\x2a\0\2kk\0\3ppp"), "303 303 :");
    assert_string_equal(WITH(0xfe0d, "\0\0\1\0\1\x2a\0\0\0\3ppp"), "303 303 :");
    assert_string_equal(WITH(0xfe0d, "\1"), "303 303 :");
    assert_string_equal(WITH(0xfe0d, "\0\0\1\0\1\x2a\0\2kk\0\0"), "303 303 :");
    assert_string_equal(WITH(0xfe0d, "\0\0\1\0\1\x2a\0\2kk\0\3pppx"), "none");
    assert_string_equal(WITH(0xfe0d, "\0\0\1\0\1\x2a\0\2kk\0\3pp"), "none");
    assert_string_equal(WITH(0xfe0d, "\0"), "none");
    assert_string_equal(WITH(0xfe0d, "\1x"), "303 303 :");
    assert_string_equal(WITH(0xfe0d, "\2"), "303 303 :");
    assert_string_equal(WITH(0xfe0d, ""), "none");
    assert_string_equal(WITH(13, "anything"), "303 303 :");
}

static void messages_of_the_wrong_shape(void **state) {
    static const char long_id[33];
    begin();
    assert_string_equal(told((struct hello_order){.ciphers = SPAN_LIT("")}), "none");
    begin();
    assert_string_equal(told((struct hello_order){.ciphers = SPAN_LIT("abc")}), "none");
    begin();
    assert_string_equal(told((struct hello_order){.methods = SPAN_LIT("")}), "none");
    begin();
    assert_string_equal(told((struct hello_order){.methods = SPAN_LIT("\1")}), "303 303 :");
    begin();
    assert_string_equal(told((struct hello_order){.methods = SPAN_LIT("\1\0")}), "303 303 :");
    begin();
    assert_string_equal(told((struct hello_order){.session_id = span_make(long_id, 33)}), "none");
    begin();
    assert_string_equal(told((struct hello_order){.session_id = SPAN_LIT("")}), "303 303 :");
    begin(); /* an empty list */
    assert_string_equal(told((struct hello_order){.extensions = &extensions}), "303 303 :");
    begin(); /* the same twice */
    put_extension(&extensions, 35, SPAN_LIT(""));
    put_extension(&extensions, 35, SPAN_LIT(""));
    assert_string_equal(told((struct hello_order){.extensions = &extensions}), "none");
    begin(); /* one that ends in its head */
    put(&extensions, "\0\x23\0", 3);
    assert_string_equal(told((struct hello_order){.extensions = &extensions}), "none");
    begin(); /* one that is longer than the list */
    put(&extensions, "\0\x23\0\1", 4);
    assert_string_equal(told((struct hello_order){.extensions = &extensions}), "none");
}

/* Every message that is cut short and says so itself. */
static void truncated_messages(void **state) {
    struct span whole = read_openssl();
    for (size_t len = 0; len < whole.len - 9; len++) {
        begin();
        put(&message, whole.ptr + 5, 4 + len);
        message.bytes[2] = (uint8_t)(len >> 8);
        message.bytes[3] = (uint8_t)len;
        put_records(&records, span_make(message.bytes, message.len), 16384);
        bool ends_before_extensions = len == 2 + 32 + 33 + 38 + 2;
        assert_string_equal(describe(span_make(records.bytes, records.len)),
                            ends_before_extensions ? "303 303 :" : "none");
    }
}

static void grease_and_ech(void **state) {
    struct client_hello hello;
    begin();
    put_extension(&extensions, 0x4a4a, SPAN_LIT(""));
    put_extension(&extensions, 0xfe0d, SPAN_LIT("\0\0\1\0\1\x2a\0\1k\0\1p"));
    put_server_name(&extensions, SPAN_LIT("facade.test"));
    struct span bytes = make((struct hello_order){.extensions = &extensions});
    assert_int_equal(client_hello_read(bytes, &hello), DONE);
    assert_true(hello.has_grease);
    assert_true(hello.has_ech);
    assert_int_equal(hello.extension_count, 3);
    begin();
    bytes = make((struct hello_order){.ciphers = SPAN_LIT("\x13\x01\xfa\xfa")});
    assert_int_equal(client_hello_read(bytes, &hello), DONE);
    assert_true(hello.has_grease);
    assert_false(hello.has_ech);
    begin();
    bytes = make((struct hello_order){.ciphers = SPAN_LIT("\x13\x01\x0a\x1a\x1a\x0a")});
    assert_int_equal(client_hello_read(bytes, &hello), DONE);
    assert_false(hello.has_grease);
}

static void what_is_told_at_once(void **state) {
    static const struct {
        struct span bytes;
        size_t decided;
    } rows[] = {
        {SPAN_INIT("GET / HTTP/1.1\r\n"), 1},
        {SPAN_INIT("\x15\x03\x01\0\2\2\x28"), 1},
        {SPAN_INIT("\x16\x02"), 2},
        {SPAN_INIT("\x16\x03\xff\x41"), 4},
        {SPAN_INIT("\x16\x03\xff\x40\1"), 5},
        {SPAN_INIT("\x16\x03\1\0\1\2"), 6},                        /* a ServerHello */
        {SPAN_INIT("\x16\x03\1\0\x40\1\1\0\0"), 9},                /* 64 KiB */
        {SPAN_INIT("\x16\x03\1\0\x40\1\0\x40\1"), 9},              /* one byte too many */
        {SPAN_INIT("\x16\x03\1\0\1\1\x15\x03"), 7},                /* another record follows */
        {SPAN_INIT("\x16\x03\1\0\1\1\x16\x03\1\0\3\0\x40\1"), 14}, /* over two records */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t decided;
        assert_int_equal(verdict_bytewise(judge, MORE, rows[i].bytes, &decided), NONE);
        assert_int_equal(decided, rows[i].decided);
    }
}

static void the_longest_message(void **state) {
    begin();
    put_server_name(&extensions, SPAN_LIT("a.test"));
    put_u16(&extensions, 21); /* padding */
    size_t in_front = 2 + 32 + 33 + 6 + 2 + 2 + extensions.len + 2;
    put_u16(&extensions, (unsigned)(CLIENT_HELLO_MESSAGE_MAX - in_front));
    memset(extensions.bytes + extensions.len, 0, CLIENT_HELLO_MESSAGE_MAX - in_front);
    extensions.len += CLIENT_HELLO_MESSAGE_MAX - in_front;
    struct span bytes = make((struct hello_order){.extensions = &extensions});
    assert_int_equal(message.len, 4 + CLIENT_HELLO_MESSAGE_MAX);
    assert_int_equal(bytes.len, message.len + 2 * 5);
    assert_string_equal(describe(bytes), "303 303 a.test:");
    assert_int_equal(judge(span_make(bytes.ptr, bytes.len - 1)), MORE);
}

static void not_as_envoy(void **state) {
    struct client_hello hello;
    struct span bytes;
    static const char *names[] = {"a b", "a\nb", "a\x7f", "b\xc3\xbc"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) { /* there as they come */
        begin();
        put_server_name(&extensions, span_of(names[i]));
        assert_string_equal(told((struct hello_order){.extensions = &extensions}), "303 303 :");
    }
    begin(); /* there without a limit */
    for (unsigned i = 0; i < CLIENT_HELLO_EXTENSIONS_MAX; i++)
        put_extension(&extensions, 40000 + i, SPAN_LIT(""));
    bytes = make((struct hello_order){.extensions = &extensions});
    assert_int_equal(client_hello_read(bytes, &hello), DONE);
    put_extension(&extensions, 50000, SPAN_LIT(""));
    message.len = records.len = 0;
    bytes = make((struct hello_order){.extensions = &extensions});
    assert_int_equal(client_hello_read(bytes, &hello), NONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_openssl_sends),
        cmocka_unit_test(bytes_behind_it_do_not_matter),
        cmocka_unit_test(records_of_every_size),
        cmocka_unit_test(empty_records_in_between),
        cmocka_unit_test(versions),
        cmocka_unit_test(server_names),
        cmocka_unit_test(protocols),
        cmocka_unit_test(encrypted_hellos),
        cmocka_unit_test(messages_of_the_wrong_shape),
        cmocka_unit_test(truncated_messages),
        cmocka_unit_test(grease_and_ech),
        cmocka_unit_test(what_is_told_at_once),
        cmocka_unit_test(the_longest_message),
        cmocka_unit_test(not_as_envoy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
