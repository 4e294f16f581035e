/* Prints the layout of the kernel's own header, with which the probe's is compared. */
#include <stddef.h>
#include <stdio.h>
#include <linux/quota.h>
#include <sys/syscall.h>
int main(void) {
  printf("%zu %zu %zu %zu %zu %zu %d %#x", sizeof(struct if_dqblk), offsetof(struct if_dqblk, dqb_bhardlimit),
         offsetof(struct if_dqblk, dqb_bsoftlimit), offsetof(struct if_dqblk, dqb_curspace),
         offsetof(struct if_dqblk, dqb_btime), offsetof(struct if_dqblk, dqb_itime), SYS_quotactl_fd, Q_GETQUOTA);
}
