// What Java's own clients do with SOCKS and HTTP proxies; see programs.py.
//
//   java Fetch.java SOCKS_PORT HTTP_PORT FORWARD_PORT WEB_PORT
//
// Prints a line for each way: its name, and ok or what was wrong.

import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.ProxySelector;
import java.net.Socket;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.Arrays;

public class Fetch {
    interface Way {
        String get() throws Exception;
    }

    static final byte[] BODY = "x".repeat(100_000).getBytes();
    static final String PAGE = "the page";
    static final String GOT = "got " + new String(BODY);

    public static void main(String[] words) throws Exception {
        int socks = Integer.parseInt(words[0]);
        int http = Integer.parseInt(words[1]);
        int forward = Integer.parseInt(words[2]);
        String host = "127.0.0.1:" + words[3];
        int port = Integer.parseInt(words[3]);
        Proxy bySocks = proxy(Proxy.Type.SOCKS, socks);
        Proxy byHttp = proxy(Proxy.Type.HTTP, http);
        HttpClient client = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .proxy(ProxySelector.of((InetSocketAddress) byHttp.address()))
            .build();

        way("socks", PAGE, () -> get("http://" + host + "/page", bySocks));
        way("socks, by name", PAGE, () -> get("http://localhost:" + port + "/page", bySocks));
        way("socks, as the system is set", PAGE, () -> {
            System.setProperty("socksProxyHost", "127.0.0.1");
            System.setProperty("socksProxyPort", words[0]);
            System.setProperty("socksNonProxyHosts", "");
            try (Socket socket = new Socket("127.0.0.1", port)) {
                return ask(socket, host);
            } finally {
                System.clearProperty("socksProxyHost");
            }
        });
        way("socks, a name that it does not look up", PAGE, () -> {
            try (Socket socket = new Socket(bySocks)) {
                socket.connect(InetSocketAddress.createUnresolved("localhost", port));
                return ask(socket, host);
            }
        });
        way("http proxy", PAGE, () -> get("http://" + host + "/page", byHttp));
        way("http proxy, login in the URL", PAGE,
            () -> get("http://me:opensesame@" + host + "/page", byHttp));
        way("http proxy, fragment in the URL", PAGE, () -> get("http://" + host + "/page#part", byHttp));
        way("http proxy, chunks", GOT, () -> post("http://" + host + "/page", byHttp, 0));
        way("http proxy, a body", GOT, () -> post("http://" + host + "/page", byHttp, BODY.length));
        way("http proxy, CONNECT", PAGE, () -> {
            try (Socket socket = new Socket(byHttp)) {
                socket.connect(new InetSocketAddress("127.0.0.1", port));
                return ask(socket, host);
            }
        });
        way("HttpClient", PAGE, () -> send(client, HttpRequest.newBuilder(URI.create("http://" + host + "/page"))));
        way("HttpClient, a body", GOT, () -> send(client,
            HttpRequest.newBuilder(URI.create("http://" + host + "/page"))
                .POST(HttpRequest.BodyPublishers.ofByteArray(BODY))));
        way("HttpClient, HTTP/2 if it can be", PAGE, () -> send(client,
            HttpRequest.newBuilder(URI.create("http://" + host + "/page")).version(HttpClient.Version.HTTP_2)));
        way("forward", PAGE, () -> get("http://127.0.0.1:" + forward + "/page", Proxy.NO_PROXY));
        System.exit(0);
    }

    static Proxy proxy(Proxy.Type type, int port) {
        return new Proxy(type, new InetSocketAddress(InetAddress.getLoopbackAddress(), port));
    }

    static void way(String name, String expected, Way way) {
        String found;
        try {
            String said = way.get();
            found = said.contains(expected) ? "ok" : "wrong: " + said.substring(0, Math.min(200, said.length()));
        } catch (Exception error) {
            found = error.toString();
        }
        System.out.println(name + ": " + found);
    }

    static HttpURLConnection open(String url, Proxy proxy) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) new URL(url).openConnection(proxy);
        connection.setConnectTimeout(20_000);
        connection.setReadTimeout(20_000);
        return connection;
    }

    static String get(String url, Proxy proxy) throws Exception {
        try (InputStream body = open(url, proxy).getInputStream()) {
            return new String(body.readAllBytes());
        }
    }

    static String post(String url, Proxy proxy, int length) throws Exception {
        HttpURLConnection connection = open(url, proxy);
        connection.setDoOutput(true);
        if (length == 0) {
            connection.setChunkedStreamingMode(4096);
        } else {
            connection.setFixedLengthStreamingMode(length);
        }
        try (OutputStream body = connection.getOutputStream()) {
            body.write(BODY);
        }
        try (InputStream body = connection.getInputStream()) {
            return new String(body.readAllBytes());
        }
    }

    static String send(HttpClient client, HttpRequest.Builder request) throws Exception {
        return client.send(request.build(), HttpResponse.BodyHandlers.ofString()).body();
    }

    static String ask(Socket socket, String host) throws Exception {
        socket.setSoTimeout(20_000);
        socket.getOutputStream().write(("GET /page HTTP/1.1\r\nHost: " + host + "\r\n\r\n").getBytes());
        byte[] answer = new byte[10_000];
        int size = 0;
        String said = "";
        while (!said.contains(PAGE) && size < answer.length) {
            int more = socket.getInputStream().read(answer, size, answer.length - size);
            if (more < 0) {
                break;
            }
            size += more;
            said = new String(Arrays.copyOf(answer, size));
        }
        return said;
    }
}
