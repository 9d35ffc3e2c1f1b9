#include "daemon/tools/image.h"

const char *image_type(struct str data)
{
    if (str_starts(data, "\x89PNG\r\n\x1a\n"))
        return "image/png";
    if (str_starts(data, "\xff\xd8\xff"))
        return "image/jpeg";
    if (str_starts(data, "GIF87a") || str_starts(data, "GIF89a"))
        return "image/gif";
    if (data.n >= 12 && memcmp(data.p, "RIFF", 4) == 0 && memcmp(data.p + 8, "WEBP", 4) == 0)
        return "image/webp";
    return NULL;
}
