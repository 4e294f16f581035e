/* A FUSE file system that shows a directory as it is, until it is told to fail.
 *
 * Arguments: the directory to show, the control file (16 bytes), then libfuse's own. The control file's first byte says
 * what happens: '-' nothing, 'n' no space for anything new, 'i' input/output errors, 'r' read-only, 'h' reads are never
 * answered. A 32-bit counter at its eighth byte says how many requests were refused or kept waiting.
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const char *base;
static volatile char *control;

enum { GROWS = 1, DATA = 2, CHANGES = 4 };

/* The error that a request of this nature gets now, 0 for none. */
static int refused(int nature)
{
    char mode = control[0];
    int error = 0;
    if (mode == 'n' && (nature & GROWS))
        error = -ENOSPC;
    else if (mode == 'i' && (nature & (GROWS | DATA)))
        error = -EIO;
    else if (mode == 'r' && (nature & (GROWS | CHANGES)))
        error = -EROFS;
    if (error)
        atomic_fetch_add((_Atomic unsigned *)(control + 8), 1);
    return error;
}

static void wait_while_silent(void)
{
    if (control[0] != 'h')
        return;
    atomic_fetch_add((_Atomic unsigned *)(control + 8), 1);
    while (control[0] == 'h')
        usleep(20000);
}

static char *at(char *buffer, const char *path)
{
    snprintf(buffer, PATH_MAX, "%s%s", base, path);
    return buffer;
}

/* What a caller makes belongs to the caller. */
static void become_caller(void)
{
    struct fuse_context *caller = fuse_get_context();
    setfsgid(caller->gid);
    setfsuid(caller->uid);
}

static int be_root(int result)
{
    int error = errno;
    setfsuid(0);
    setfsgid(0);
    return result == -1 ? -error : 0;
}

static int result_of(int result) { return result == -1 ? -errno : 0; }

#define REFUSE(nature) do { int error = refused(nature); if (error) return error; } while (0)

static int do_getattr(const char *path, struct stat *status, struct fuse_file_info *file)
{
    char where[PATH_MAX];
    return file ? result_of(fstat((int)file->fh, status)) : result_of(lstat(at(where, path), status));
}

static int do_readlink(const char *path, char *target, size_t size)
{
    char where[PATH_MAX];
    ssize_t length = readlink(at(where, path), target, size - 1);
    if (length == -1)
        return -errno;
    target[length] = '\0';
    return 0;
}

static int do_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *file,
                      enum fuse_readdir_flags flags)
{
    char where[PATH_MAX];
    (void)offset, (void)file, (void)flags;
    DIR *directory = opendir(at(where, path));
    if (!directory)
        return -errno;
    for (struct dirent *entry; (entry = readdir(directory));) {
        struct stat status = {.st_ino = entry->d_ino, .st_mode = (mode_t)entry->d_type << 12};
        if (fill(buffer, entry->d_name, &status, 0, 0))
            break;
    }
    closedir(directory);
    return 0;
}

static int do_mknod(const char *path, mode_t mode, dev_t device)
{
    char where[PATH_MAX];
    REFUSE(GROWS);
    become_caller();
    return be_root(mknod(at(where, path), mode, device));
}

static int do_mkdir(const char *path, mode_t mode)
{
    char where[PATH_MAX];
    REFUSE(GROWS);
    become_caller();
    return be_root(mkdir(at(where, path), mode));
}

static int do_symlink(const char *target, const char *path)
{
    char where[PATH_MAX];
    REFUSE(GROWS);
    become_caller();
    return be_root(symlink(target, at(where, path)));
}

static int do_link(const char *from, const char *to)
{
    char one[PATH_MAX], other[PATH_MAX];
    REFUSE(GROWS);
    return result_of(link(at(one, from), at(other, to)));
}

static int do_unlink(const char *path)
{
    char where[PATH_MAX];
    REFUSE(CHANGES);
    return result_of(unlink(at(where, path)));
}

static int do_rmdir(const char *path)
{
    char where[PATH_MAX];
    REFUSE(CHANGES);
    return result_of(rmdir(at(where, path)));
}

static int do_rename(const char *from, const char *to, unsigned int flags)
{
    char one[PATH_MAX], other[PATH_MAX];
    REFUSE(CHANGES);
    return result_of(renameat2(AT_FDCWD, at(one, from), AT_FDCWD, at(other, to), flags));
}

static int do_chmod(const char *path, mode_t mode, struct fuse_file_info *file)
{
    char where[PATH_MAX];
    (void)file;
    REFUSE(CHANGES);
    return result_of(chmod(at(where, path), mode));
}

static int do_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *file)
{
    char where[PATH_MAX];
    (void)file;
    REFUSE(CHANGES);
    return result_of(lchown(at(where, path), uid, gid));
}

static int do_truncate(const char *path, off_t size, struct fuse_file_info *file)
{
    char where[PATH_MAX];
    REFUSE(DATA | CHANGES);
    return file ? result_of(ftruncate((int)file->fh, size)) : result_of(truncate(at(where, path), size));
}

static int do_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *file)
{
    char where[PATH_MAX];
    (void)file;
    REFUSE(CHANGES);
    return result_of(utimensat(AT_FDCWD, at(where, path), times, AT_SYMLINK_NOFOLLOW));
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *file)
{
    char where[PATH_MAX];
    REFUSE(GROWS);
    become_caller();
    int descriptor = open(at(where, path), file->flags | O_CREAT, mode);
    int problem = be_root(descriptor == -1 ? -1 : 0);
    file->fh = (uint64_t)descriptor;
    return problem;
}

static int do_open(const char *path, struct fuse_file_info *file)
{
    char where[PATH_MAX];
    REFUSE((file->flags & O_ACCMODE) == O_RDONLY ? DATA : DATA | CHANGES);
    int descriptor = open(at(where, path), file->flags & ~O_NOFOLLOW);
    file->fh = (uint64_t)descriptor;
    /* Without the page cache the reader waits for this program's answer itself, which no signal ends. */
    file->direct_io = control[0] == 'h';
    return descriptor == -1 ? -errno : 0;
}

static int do_read(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *file)
{
    (void)path;
    wait_while_silent();
    REFUSE(DATA);
    ssize_t count = pread((int)file->fh, buffer, size, offset);
    return count == -1 ? -errno : (int)count;
}

static int do_write(const char *path, const char *buffer, size_t size, off_t offset, struct fuse_file_info *file)
{
    (void)path;
    REFUSE(GROWS | DATA | CHANGES);
    ssize_t count = pwrite((int)file->fh, buffer, size, offset);
    return count == -1 ? -errno : (int)count;
}

static int do_fallocate(const char *path, int mode, off_t offset, off_t length, struct fuse_file_info *file)
{
    (void)path;
    REFUSE(GROWS);
    return result_of(fallocate((int)file->fh, mode, offset, length));
}

static int do_statfs(const char *path, struct statvfs *status)
{
    char where[PATH_MAX];
    return result_of(statvfs(at(where, path), status));
}

static int do_release(const char *path, struct fuse_file_info *file)
{
    (void)path;
    close((int)file->fh);
    return 0;
}

static int do_fsync(const char *path, int only_data, struct fuse_file_info *file)
{
    (void)path;
    REFUSE(DATA);
    return result_of(only_data ? fdatasync((int)file->fh) : fsync((int)file->fh));
}

static const struct fuse_operations operations = {
    .getattr = do_getattr, .readlink = do_readlink, .readdir = do_readdir, .mknod = do_mknod, .mkdir = do_mkdir,
    .symlink = do_symlink, .link = do_link, .unlink = do_unlink, .rmdir = do_rmdir, .rename = do_rename,
    .chmod = do_chmod, .chown = do_chown, .truncate = do_truncate, .utimens = do_utimens, .create = do_create,
    .open = do_open, .read = do_read, .write = do_write, .fallocate = do_fallocate, .statfs = do_statfs,
    .release = do_release, .fsync = do_fsync,
};

int main(int count, char *words[])
{
    if (count < 4)
        return 2;
    base = words[1];
    int descriptor = open(words[2], O_RDWR);
    control = descriptor == -1 ? MAP_FAILED : mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (control == MAP_FAILED) {
        perror(words[2]);
        return 1;
    }
    umask(0);
    words[2] = words[0];
    return fuse_main(count - 2, words + 2, &operations, NULL);
}
