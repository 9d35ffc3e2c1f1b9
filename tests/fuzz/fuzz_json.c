/* JSON without a library (base/json.h) against jansson: the spans that are found are the values that jansson
 * reads; what is made compact means the same; a string that is written is read back. */
#include <jansson.h>

#include "fuzz.h"

#include "daemon/base/json.h"
#include "daemon/base/mem.h"

#define DEPTH_MAX 64

static json_t *parse(struct str text)
{
    return json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
}

static void check_same(struct str text, const json_t *value)
{
    HOLDS(text.p);
    json_t *found = parse(text);
    HOLDS(found && json_equal(found, value));
    json_decref(found);
}

static bool is_plain(const char *name)
{
    for (; *name; name++)
        if ((unsigned char)*name < 0x20 || (unsigned char)*name > 0x7e || *name == '"' || *name == '\\')
            return false;
    return true;
}

static void check_members(struct str text, json_t *object)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        struct str found = is_plain(name) ? json_find(text, name) : STR_NONE;
        /* A name that is written with escapes is not found, as the header says. */
        if (found.p || (is_plain(name) && !memchr(text.p, '\\', text.n)))
            check_same(found, value);
    }
    if (!json_object_get(object, "absent"))
        HOLDS(!json_find(text, "absent").p);
}

static void check_elements(struct str text, const json_t *array)
{
    struct str rest = text, element;
    size_t i = 0;
    for (; json_next(&rest, &element); i++)
        check_same(element, json_array_get(array, i));
    HOLDS(i == json_array_size(array));
}

static void check_value(struct str text, json_t *json)
{
    CLEANUP(buf_free) struct buf compact = {0};
    json_put_compact(&compact, text);
    check_same(buf_view(&compact), json);
    HOLDS(!memchr(compact.p, '\n', compact.n) && compact.n <= text.n);
    if (json_is_object(json))
        check_members(text, json);
    if (json_is_array(json))
        check_elements(text, json);
}

static void check_string(struct str bytes)
{
    CLEANUP(buf_free) struct buf valid = {0}, json = {0};
    struct str s = fuzz_utf8(&valid, bytes);
    json_put_string(&json, s);
    json_t *read = parse(buf_view(&json));
    HOLDS(read && str_eq(s, str_n(json_string_value(read), json_string_length(read))));
    json_decref(read);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_input(data, size);
    size_t depth = json_depth(in, DEPTH_MAX);
    HOLDS(depth <= DEPTH_MAX + 1);
    json_t *json = depth <= DEPTH_MAX ? parse(in) : NULL;
    if (json)
        check_value(in, json);
    json_decref(json);
    check_string(in);
    return 0;
}
