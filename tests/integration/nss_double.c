/* A module of the name service, as sites have them for accounts from LDAP: one account, and nothing else. */
#include <nss.h>
#include <pwd.h>
#include <string.h>

static char words[] = "from-sss\0x\0of the site\0/home/from-sss\0/bin/sh";

enum nss_status _nss_sss_getpwuid_r(uid_t uid, struct passwd *found, char *buffer, size_t size, int *error)
{
    char **fields[] = {&found->pw_name, &found->pw_passwd, &found->pw_gecos, &found->pw_dir, &found->pw_shell};

    (void)error;
    if (uid != 4242 || size < sizeof words)
        return NSS_STATUS_NOTFOUND;
    memcpy(buffer, words, sizeof words);
    for (int field = 0; field < 5; field++) {
        *fields[field] = buffer;
        buffer += strlen(buffer) + 1;
    }
    found->pw_uid = found->pw_gid = 4242;
    return NSS_STATUS_SUCCESS;
}
