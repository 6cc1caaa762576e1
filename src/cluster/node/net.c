#include "cluster/node/net.h"

#include "base/file.h"
#include "cluster/node/records.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define RECORD "net"
#define CLAIM_PORT 10250 /* UDP, on 127.1.N.1; nothing is sent there */

/* One folder for all users, or they would not see one another's locks. Files of others may be unreadable to us; such a net counts
 * as taken. */
static const char *lock_folder(void) {
    static const char folder[] = "/tmp/davit-nets";
    if (mkdir(folder, 01777) == 0) {
        (void)chmod(folder, 01777); /* whatever the umask was */
    }
    return folder;
}

static void read_owner(int fd, char *ret_owner, size_t size) {
    ssize_t len = pread(fd, ret_owner, size - 1, 0);
    ret_owner[len > 0 ? len : 0] = '\0';
    ret_owner[strcspn(ret_owner, "\n")] = '\0';
}

static int write_owner(int fd, const char *owner, struct error *err) {
    if (ftruncate(fd, 0) < 0 || pwrite(fd, owner, strlen(owner), 0) != (ssize_t)strlen(owner)) {
        return error_set_errno(err, "lock file of a pod net");
    }
    return 0;
}

/* The locked file of net N; ERROR_BUSY when it belongs to somebody else. */
static int lock_net(int number, const char *folder, struct error *err) {
    cleanup_free char *path = xasprintf("%s/127.1.%d.lock", lock_folder(), number);
    cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
        return error_set(err, ERROR_BUSY, "net 127.1.%d.0/24 is in use (%s)", number, path);
    }
    char owner[4096];
    read_owner(fd, owner, sizeof(owner));
    if (owner[0] != '\0' && strcmp(owner, folder) != 0 && records_any_alive(owner)) {
        return error_set(err, ERROR_BUSY, "net 127.1.%d.0/24 is in use by pods of %s", number, owner);
    }
    if (write_owner(fd, folder, err) < 0) {
        return -1;
    }
    int result = fd;
    fd = -1;
    return result;
}

/* Files do not tell of nodes that share our network but not our files (containers on the host's network). A bound socket does: it
 * is held as long as the node lives. Returns the descriptor, -1 when the net is claimed. */
static int claim_net(int number) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(CLAIM_PORT), .sin_addr = {htonl(0x7f010001U | (uint32_t)number << 8)}};
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Whether anybody listens on an address of the net: pods whose node is gone and that we have no record of (proc(5), /proc/net/tcp).
 */
static bool has_listeners(int number) {
    FILE *table = fopen("/proc/net/tcp", "re");
    char line[512];
    bool found = false;
    while (table != NULL && !found && fgets(line, sizeof(line), table) != NULL) {
        unsigned address = 0;
        unsigned state = 0;
        found = sscanf(line, " %*d: %8X:%*X %*8X:%*X %2X", &address, &state) == 2 && state == 0x0a &&
                (ntohl(address) & 0xffffff00U) == (0x7f010000U | (uint32_t)number << 8);
    }
    if (table != NULL) {
        (void)fclose(table);
    }
    return found;
}

static int parse_cidr(const char *text, struct error *err) {
    unsigned number = 0;
    int used = 0;
    if (sscanf(text, "127.1.%3u.0/24%n", &number, &used) != 1 || text[used] != '\0' || number > 255) {
        return error_set(err, ERROR_INVALID, "pod net \"%s\": expected 127.1.N.0/24 with N from 0 to 255", text);
    }
    return (int)number;
}

static int recorded_number(const char *folder) {
    cleanup_free char *path = path_join(folder, RECORD);
    cleanup_buffer struct buffer text = BUFFER_INIT;
    return file_read(path, 64, &text, NULL) == 0 ? parse_cidr(buffer_text(&text), NULL) : -1;
}

static int take_any(const char *folder, int *ret_number, struct error *err) {
    for (int number = 1; number <= 254; number++) {
        int fd = has_listeners(number) ? -1 : lock_net(number, folder, err);
        int claim_fd = fd >= 0 ? claim_net(number) : -1;
        if (claim_fd >= 0) {
            close(claim_fd); /* net_take has it again at once */
            *ret_number = number;
            return fd;
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    return error_set(err, ERROR_BUSY, "no free pod net: 127.1.1.0/24 to 127.1.254.0/24 are all in use; see %s", lock_folder());
}

int net_take(const char *folder, const char *wanted, struct net *ret_net, struct error *err) {
    cleanup_free char *owner = realpath(folder, NULL);
    if (owner == NULL) {
        return error_set_errno(err, "%s", folder);
    }
    int number = wanted != NULL ? parse_cidr(wanted, err) : recorded_number(folder);
    if (wanted != NULL && number < 0) {
        return -1;
    }
    int fd = number >= 0 ? lock_net(number, owner, err) : -1;
    if (fd < 0 && (wanted != NULL || (number >= 0 && records_any_alive(owner)))) {
        return -1; /* moving to another net would leave living pods behind on addresses that are not ours */
    }
    if (fd < 0) {
        fd = take_any(owner, &number, err);
    }
    if (fd < 0) {
        return -1;
    }
    struct net net = {.number = number, .lock_fd = fd, .claim_fd = claim_net(number), .next_host = NET_HOST_FIRST};
    if (net.claim_fd < 0) {
        close(fd);
        return error_set(err, ERROR_BUSY, "net 127.1.%d.0/24 is in use by another node on this network", number);
    }
    (void)snprintf(net.cidr, sizeof(net.cidr), "127.1.%d.0/24", number);
    cleanup_free char *record = path_join(folder, RECORD);
    if (file_replace(record, net.cidr, strlen(net.cidr), 0600, err) < 0) {
        net_release(&net);
        return -1;
    }
    *ret_net = net;
    return 0;
}

void net_release(struct net *net) {
    if (net->lock_fd >= 0) {
        close(net->lock_fd);
        close(net->claim_fd);
    }
    net->lock_fd = -1;
    net->claim_fd = -1;
}

static int host_of(const struct net *net, const char *address) {
    unsigned number = 0;
    unsigned host = 0;
    int used = 0;
    if (sscanf(address, "127.1.%3u.%3u%n", &number, &host, &used) != 2 || address[used] != '\0' || (int)number != net->number ||
        host > 255) {
        return -1;
    }
    return (int)host;
}

char *net_address_take(struct net *net) {
    for (int tries = NET_HOST_FIRST; tries <= NET_HOST_LAST; tries++) {
        int host = net->next_host;
        net->next_host = host == NET_HOST_LAST ? NET_HOST_FIRST : host + 1;
        if (!net->is_used[host]) {
            net->is_used[host] = true;
            return xasprintf("127.1.%d.%d", net->number, host);
        }
    }
    return NULL;
}

bool net_address_mark(struct net *net, const char *address) {
    int host = host_of(net, address);
    if (host < 0 || net->is_used[host]) {
        return false;
    }
    net->is_used[host] = true;
    if (host >= net->next_host && host < NET_HOST_LAST) {
        net->next_host = host + 1;
    }
    return true;
}

void net_address_give_back(struct net *net, const char *address) {
    int host = host_of(net, address);
    if (host >= 0) {
        net->is_used[host] = false;
    }
}
