/* The vassal of the benchmarks: it does nothing, and tells the bench when it was started and when it was told to reload.
 *
 * Every message is one datagram to the Unix socket named by BENCH_SOCKET: "KIND NAME PID NANOSECONDS", KIND is S
 * (started) or R (told to reload), the time is CLOCK_MONOTONIC. NAME is the last argument. It is told by SIGHUP or,
 * where there is a UWSGI_EMPEROR_FD, by byte 1 of the emperor protocol; there byte 0, byte 2 or end-of-file ends it.
 * With BENCH_BEAT it sends a heartbeat there every second. With BENCH_FAIL it says nothing and fails at once.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_un bench;
static const char *name;

static void report(char kind)
{
	char text[512];
	struct timespec now;
	int length, fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	clock_gettime(CLOCK_MONOTONIC, &now);
	length = snprintf(text, sizeof text, "%c %s %d %lld", kind, name, (int)getpid(),
			  (long long)now.tv_sec * 1000000000LL + now.tv_nsec);
	sendto(fd, text, length, 0, (struct sockaddr *)&bench, sizeof bench);
	close(fd);
}

/* A loyal vassal at once: spawned, accepting, loyal. So its death is never held against it. */
static void announce(int emperor)
{
	if (emperor >= 0 && write(emperor, "\x01\x05\x11", 3) != 3)
		exit(1);
}

int main(int argc, char **argv)
{
	const char *path = getenv("BENCH_SOCKET"), *fd = getenv("UWSGI_EMPEROR_FD");
	int emperor = fd ? atoi(fd) : -1, beat = emperor >= 0 && getenv("BENCH_BEAT");
	sigset_t hup;
	struct pollfd waits[2];

	if (getenv("BENCH_FAIL"))
		return 1;
	if (!path || strlen(path) >= sizeof bench.sun_path)
		return 2;
	bench.sun_family = AF_UNIX;
	strcpy(bench.sun_path, path);
	name = argv[argc - 1];
	sigemptyset(&hup);
	sigaddset(&hup, SIGHUP);
	sigprocmask(SIG_BLOCK, &hup, NULL);
	waits[0] = (struct pollfd){.fd = signalfd(-1, &hup, SFD_CLOEXEC), .events = POLLIN};
	waits[1] = (struct pollfd){.fd = emperor, .events = POLLIN};
	announce(emperor);
	report('S');
	for (;;) {
		int found = poll(waits, 2, beat ? 1000 : -1);
		if (found < 0)
			continue;
		if (found == 0 && write(emperor, "\x1a", 1) != 1)
			return 0;
		if (waits[0].revents) {
			struct signalfd_siginfo info;
			if (read(waits[0].fd, &info, sizeof info) == sizeof info)
				report('R');
		}
		if (waits[1].revents) {
			char byte;
			if (read(emperor, &byte, 1) != 1 || byte != 1)
				return 0;
			report('R');
			announce(emperor);
		}
	}
}
